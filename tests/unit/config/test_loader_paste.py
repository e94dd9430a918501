"""Settings from ini files that PasteDeploy loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from paste.deploy import loadapp, loadfilter

from pulse.config.loader import load_paste
from pulse.config.settings import PasteOrigin
from pulse.errors import ConfigError
from pulse.middleware import PulseMiddleware
from pulse.schedule.interval import Interval

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.config.settings import Settings

TASK = """
    pulse.task.cleanup.action = cleanup
    pulse.task.cleanup.interval = 300
"""
PLAIN = f"[filter:pulse]\nUSE\n{TASK}"


def settings_factory(_app: object, global_conf: dict[str, str], **local_conf: str) -> Settings:
    """Return the settings that pulse reads; the function is a filter factory."""
    return load_paste(global_conf, local_conf)


def app_factory(_global_conf: dict[str, str]) -> Callable[..., list[bytes]]:
    """Return an application; the function is an app factory."""
    return lambda _environ, _start_response: []


@pytest.fixture
def write_ini(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an ini file."""

    def write(text: str, *, name: str = "pulse.ini") -> Path:
        use = f"paste.filter_app_factory = {__name__}:settings_factory"
        lines = (line.strip() if line[:4] == "    " else line for line in text.splitlines())
        file = tmp_path / name
        file.write_text("\n".join(lines).replace("USE", use).replace("|", "  "), encoding="utf-8")
        return file

    return write


@pytest.fixture
def load_ini(write_ini: Callable[..., Path]) -> Callable[..., Settings]:
    """Return a function that loads the settings of an ini file through PasteDeploy."""

    def load(text: str, *, name: str = "pulse.ini", **global_conf: str) -> Settings:
        uri = f"config:{quote(str(write_ini(text, name=name)))}"
        make: Any = loadfilter(uri, name="pulse", global_conf=global_conf)
        return make("app")

    return load


def test_settings_and_a_task_of_a_section(load_ini: Callable[..., Settings]) -> None:
    """The task is relative to the context."""
    settings = load_ini(
        f"""[filter:pulse]
        USE
        pulse.config.context = sessions
        pulse.config.mode = gevent
        pulse.config.guard = true
        {TASK}"""
    )
    task = settings.tasks["cleanup"]
    assert (settings.mode, settings.guard, task.path, task.schedule) == (
        "gevent",
        True,
        "/sessions/cleanup",
        Interval(300),
    )


def test_origin_is_the_real_path_of_the_file(
    load_ini: Callable[..., Settings], tmp_path: Path
) -> None:
    """The origin names the default store; a child process loads the app by the loader's URI."""
    settings = load_ini(PLAIN)
    file = tmp_path / "pulse.ini"
    assert Path(settings.origin) == file.resolve()
    assert settings.paste == PasteOrigin(
        uri=f"config:{file}", global_conf={"here": str(tmp_path), "__file__": str(file)}
    )


def test_origin_of_a_symlink_is_its_target(write_ini: Callable[..., Path], tmp_path: Path) -> None:
    """A link such as `current/app.ini` has the origin of the release that it points to."""
    link = tmp_path / "link.ini"
    link.symlink_to(write_ini(PLAIN))
    make: Any = loadfilter(f"config:{link}", name="pulse")
    assert Path(make("app").origin) == (tmp_path / "pulse.ini").resolve()


def test_path_with_special_characters_can_be_loaded_again(
    load_ini: Callable[..., Settings],
) -> None:
    """The URI is quoted as PasteDeploy expects."""
    settings = load_ini(PLAIN, name="a b#.ini")
    again: Any = loadfilter(settings.paste.uri, name="pulse")
    assert again("app") == settings


def test_application_may_be_another_section(load_ini: Callable[..., Settings]) -> None:
    """Child processes load this section."""
    text = "pulse.config.application = admin\npulse.config.mode = processing\n[app:admin]\nuse = x"
    settings = load_ini(f"{PLAIN}{text}")
    assert settings.application is None
    assert (settings.paste.section, settings.paste.chosen) == ("admin", True)


def test_application_that_is_no_section_is_refused(
    load_ini: Callable[..., Settings], tmp_path: Path
) -> None:
    """The error names the setting, and the nearest section."""
    text = "pulse.config.application = admn\n[app:admin]\nuse = x\n[server:admn]\nuse = y"
    with pytest.raises(ConfigError) as caught:
        load_ini(f"{PLAIN}{text}")
    (problem,) = caught.value.problems
    expected = f"pulse.config.application: expected an application of config:{tmp_path}/pulse.ini,"
    assert problem == f"{expected} got 'admn'; did you mean 'admin'?"


def test_application_may_be_a_module(load_ini: Callable[..., Settings]) -> None:
    """The module takes precedence over the ini file."""
    settings = load_ini(PLAIN + "pulse.config.application = shop.wsgi:app")
    assert (settings.application, settings.paste.chosen) == ("shop.wsgi:app", False)


def test_other_keys_of_the_default_section_are_ignored(
    load_ini: Callable[..., Settings],
) -> None:
    """`[DEFAULT]` and the variables of the loader are shared by all sections."""
    plain = load_ini(PLAIN)
    other = load_ini(f"[DEFAULT]\ndebug = true\n{PLAIN}", workers="4")
    assert (other.tasks, other.mode) == (plain.tasks, plain.mode)


def test_keys_of_pulse_in_the_default_section_apply(load_ini: Callable[..., Settings]) -> None:
    """A key in `[DEFAULT]` is a default for all sections."""
    settings = load_ini(f"[DEFAULT]\npulse.config.mode = gevent\n{PLAIN}")
    assert settings.mode == "gevent"


def test_key_of_the_default_section_beats_that_of_the_section(
    load_ini: Callable[..., Settings],
) -> None:
    """PasteDeploy drops the key of the section, as the how-to says."""
    settings = load_ini(f"[DEFAULT]\npulse.config.mode = gevent\n{PLAIN}pulse.config.mode = inline")
    assert settings.mode == "gevent"


def test_set_overrides_a_key_of_the_default_section(load_ini: Callable[..., Settings]) -> None:
    """PasteDeploy drops a plain key that `[DEFAULT]` contains, too."""
    settings = load_ini(
        f"[DEFAULT]\npulse.config.mode = gevent\n{PLAIN}set pulse.config.mode = inline"
    )
    assert settings.mode == "inline"


def test_unknown_key_of_pulse_in_the_default_section_is_reported(
    load_ini: Callable[..., Settings],
) -> None:
    """A key that begins with `pulse.` is a key of pulse in any section."""
    with pytest.raises(ConfigError, match=r"pulse\.config\.mod: unknown setting; did you mean"):
        load_ini(f"[DEFAULT]\npulse.config.mod = gevent\n{PLAIN}")


@pytest.mark.parametrize("key", ["puls.config.mode", "debug", "interval", "cleanup.action"])
def test_other_key_in_the_section_is_rejected(key: str, load_ini: Callable[..., Settings]) -> None:
    """Only pulse reads the section, so another key is a mistake."""
    with pytest.raises(ConfigError) as caught:
        load_ini(f"{PLAIN}{key} = x")
    (problem,) = caught.value.problems
    assert problem.startswith(f"{key}: unknown key; expected pulse.config.<setting> or")


def test_all_problems_of_a_file_are_reported_together(load_ini: Callable[..., Settings]) -> None:
    """One error lists all problems."""
    with pytest.raises(ConfigError) as caught:
        load_ini(f"{PLAIN}pulse.config.mode = gevnt\npulse.task.x.action = a b\nfoo = 1")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "foo",
        "pulse.config.mode",
        "pulse.task.x.action",
        "pulse.task.x.interval",
    ]


def test_keys_keep_their_case(load_ini: Callable[..., Settings]) -> None:
    """PasteDeploy does not change keys to lower case, so names of tasks are case-sensitive."""
    tasks = load_ini(f"{PLAIN}{TASK.replace('cleanup', 'Cleanup')}").tasks
    assert list(tasks) == ["cleanup", "Cleanup"]


def test_name_in_an_ini_key_may_contain_dots_and_any_letters(
    load_ini: Callable[..., Settings],
) -> None:
    """An ini key may contain all characters of a task's name except `=` and `:`."""
    text = PLAIN.replace("task.cleanup.", "task.caf\u00e9 \u6771\u4eac.a-b.")
    assert list(load_ini(text).tasks) == ["caf\u00e9 \u6771\u4eac.a-b"]


def test_values_are_interpolated(load_ini: Callable[..., Settings], tmp_path: Path) -> None:
    """`%(here)s` and entries of `[DEFAULT]` are replaced, and `%%` is a percent sign."""
    settings = load_ini(
        """[DEFAULT]
        period = 5m
        [filter:pulse]
        USE
        pulse.config.store = sqlite:///%(here)s/pulse.db
        pulse.config.mode = %(mode)s
        pulse.task.t.action = a%%20b
        pulse.task.t.interval = %(period)s""",
        mode="gevent",
    )
    assert settings.store == f"sqlite:///{tmp_path}/pulse.db"
    assert settings.mode == "gevent"
    assert (settings.tasks["t"].path, settings.tasks["t"].schedule) == ("/a b", Interval(300))


def test_headers_over_several_lines(
    load_ini: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continuation lines are indented; `${NAME}` is not the interpolation of ini files."""
    monkeypatch.setenv("TOKEN", "secret")
    settings = load_ini(f"{PLAIN}pulse.task.cleanup.headers =\n|X-Token: ${{TOKEN}}\n|X-B: a: b\n")
    assert settings.tasks["cleanup"].headers == (("X-Token", "${TOKEN}"), ("X-B", "a: b"))


def test_comment_after_a_value_is_reported_with_a_hint(load_ini: Callable[..., Settings]) -> None:
    """PasteDeploy treats such a comment as part of the value."""
    with pytest.raises(ConfigError, match="a comment must be on a line of its own"):
        load_ini(f"{PLAIN}pulse.config.mode = gevent ; as in production")


def test_comment_lines_are_ignored(load_ini: Callable[..., Settings]) -> None:
    """A comment begins with `;` or `#`."""
    assert load_ini(f"{PLAIN}; pulse.config.mode = x\n# pulse.config.mode = y").mode == "threading"


@pytest.mark.parametrize("use", ["egg:pulse", "egg:pulse#main", "egg:pulse#pulse_factory"])
def test_each_entry_point_builds_the_middleware(use: str, write_ini: Callable[..., Path]) -> None:
    """A pipeline wraps its app in the middleware, with the current and the old name."""
    file = write_ini(
        f"""[pipeline:main]
        pipeline = pulse app
        [app:app]
        paste.app_factory = {__name__}:app_factory
        [filter:pulse]
        use = {use}
        pulse.config.start = off
        {TASK}"""
    )
    assert isinstance(loadapp(f"config:{file}"), PulseMiddleware)


def test_settings_without_a_file_have_no_paste_origin() -> None:
    """A factory may be called without an ini file."""
    assert load_paste({}, {}).paste is None
