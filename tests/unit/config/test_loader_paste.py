"""What PasteDeploy makes of an ini file, and pulse of that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from paste.deploy import loadapp, loadfilter

from pulse.config.loader import load_paste
from pulse.config.settings import Paste
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
    """Be a filter that answers the settings which pulse reads."""
    return load_paste(global_conf, local_conf)


def app_factory(_global_conf: dict[str, str]) -> Callable[..., list[bytes]]:
    """Be an application."""
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


def test_the_old_ini_dialect(load_ini: Callable[..., Settings]) -> None:
    """Context, mode, guard, and a task below the context."""
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


def test_the_origin_is_the_real_path_of_the_file(
    load_ini: Callable[..., Settings], tmp_path: Path
) -> None:
    """It names the default store; the loader's URI lets a child process load the app again."""
    settings = load_ini(PLAIN)
    file = tmp_path / "pulse.ini"
    assert Path(settings.origin) == file.resolve()
    assert settings.paste == Paste(
        uri=f"config:{file}",
        section="main",
        global_conf={"here": str(tmp_path), "__file__": str(file)},
    )


def test_a_linked_file_has_the_origin_of_its_target(
    write_ini: Callable[..., Path], tmp_path: Path
) -> None:
    """`current/app.ini` is the same deployment after each release only if it is the same file."""
    link = tmp_path / "link.ini"
    link.symlink_to(write_ini(PLAIN))
    make: Any = loadfilter(f"config:{link}", name="pulse")
    assert Path(make("app").origin) == (tmp_path / "pulse.ini").resolve()


def test_a_path_with_odd_characters_can_be_loaded_again(
    load_ini: Callable[..., Settings],
) -> None:
    """The URI is quoted as PasteDeploy unquotes it."""
    settings = load_ini(PLAIN, name="a b#.ini")
    again: Any = loadfilter(settings.paste.uri, name="pulse")
    assert again("app") == settings


def test_the_application_may_be_another_section(load_ini: Callable[..., Settings]) -> None:
    """Child processes then load that one."""
    settings = load_ini(PLAIN + "pulse.config.application = admin\npulse.config.mode = processing")
    assert (settings.application, settings.paste.section) == (None, "admin")


def test_the_application_may_be_a_module_all_the_same(load_ini: Callable[..., Settings]) -> None:
    """It goes before what the ini file says."""
    settings = load_ini(PLAIN + "pulse.config.application = shop.wsgi:app")
    assert (settings.application, settings.paste.section) == ("shop.wsgi:app", "main")


def test_keys_of_others_in_the_global_configuration_are_let_be(
    load_ini: Callable[..., Settings],
) -> None:
    """`[DEFAULT]` and the loader's own entries are everybody's."""
    plain = load_ini(PLAIN)
    other = load_ini(f"[DEFAULT]\ndebug = true\n{PLAIN}", workers="4")
    assert (other.tasks, other.mode) == (plain.tasks, plain.mode)


def test_keys_of_pulse_in_the_default_section_apply(load_ini: Callable[..., Settings]) -> None:
    """They are for all sections that do not say otherwise."""
    settings = load_ini(f"[DEFAULT]\npulse.config.mode = gevent\n{PLAIN}")
    assert settings.mode == "gevent"


def test_set_overrules_a_key_of_the_default_section(load_ini: Callable[..., Settings]) -> None:
    """PasteDeploy takes a plain key that `[DEFAULT]` has too for the global one, and drops it."""
    settings = load_ini(
        f"[DEFAULT]\npulse.config.mode = gevent\n{PLAIN}set pulse.config.mode = inline"
    )
    assert settings.mode == "inline"


def test_a_misspelt_key_in_the_default_section_is_told(load_ini: Callable[..., Settings]) -> None:
    """Keys that begin with `pulse.` are pulse's wherever they stand."""
    with pytest.raises(ConfigError, match=r"pulse\.config\.mod: unknown setting; did you mean"):
        load_ini(f"[DEFAULT]\npulse.config.mod = gevent\n{PLAIN}")


@pytest.mark.parametrize("key", ["puls.config.mode", "debug", "interval", "cleanup.action"])
def test_every_key_of_the_section_must_be_pulse_s(
    key: str, load_ini: Callable[..., Settings]
) -> None:
    """Nobody else reads that section, so another key is a mistake."""
    with pytest.raises(ConfigError) as caught:
        load_ini(f"{PLAIN}{key} = x")
    (problem,) = caught.value.problems
    assert problem.startswith(f"{key}: unknown key; expected pulse.config.<setting> or")


def test_all_problems_of_a_file_are_told_together(load_ini: Callable[..., Settings]) -> None:
    """One start, one list."""
    with pytest.raises(ConfigError) as caught:
        load_ini(f"{PLAIN}pulse.config.mode = gevnt\npulse.task.x.action = a b\nfoo = 1")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "foo",
        "pulse.config.mode",
        "pulse.task.x.action",
        "pulse.task.x.interval",
    ]


def test_keys_keep_their_case(load_ini: Callable[..., Settings]) -> None:
    """PasteDeploy does not turn keys into lower case, so names of tasks stay apart."""
    tasks = load_ini(f"{PLAIN}{TASK.replace('cleanup', 'Cleanup')}").tasks
    assert list(tasks) == ["cleanup", "Cleanup"]


def test_names_with_dots_and_letters_of_any_script(load_ini: Callable[..., Settings]) -> None:
    """An ini key may hold what a task's name may hold, but for `=` and `:`."""
    text = PLAIN.replace("task.cleanup.", "task.caf\u00e9 \u6771\u4eac.a-b.")
    assert list(load_ini(text).tasks) == ["caf\u00e9 \u6771\u4eac.a-b"]


def test_interpolated_values(load_ini: Callable[..., Settings], tmp_path: Path) -> None:
    """`%(here)s` and entries of `[DEFAULT]` are put in, `%%` is a percent sign."""
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


def test_a_comment_behind_a_value_is_explained(load_ini: Callable[..., Settings]) -> None:
    """For PasteDeploy it is part of the value."""
    with pytest.raises(ConfigError, match="a comment must stand on a line of its own"):
        load_ini(f"{PLAIN}pulse.config.mode = gevent ; as in production")


def test_comments_on_lines_of_their_own(load_ini: Callable[..., Settings]) -> None:
    """Both signs begin one."""
    assert load_ini(f"{PLAIN}; pulse.config.mode = x\n# pulse.config.mode = y").mode == "threading"


@pytest.mark.parametrize("use", ["egg:pulse", "egg:pulse#main", "egg:pulse#pulse_factory"])
def test_the_entry_points(use: str, write_ini: Callable[..., Path]) -> None:
    """A pipeline wraps its app in the middleware, by each of the names that there have been."""
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


def test_without_a_file_there_is_nothing_to_load_again() -> None:
    """A factory may be called by hand."""
    assert load_paste({}, {}).paste is None
