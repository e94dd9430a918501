"""Settings from keywords, from mappings with ini keys, and from both."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pulse.clock import SECOND
from pulse.config.loader import load
from pulse.core.policies import Start
from pulse.core.task import Task, build_definition
from pulse.errors import ConfigError, shown
from pulse.schedule.interval import Interval

TASK = Task(action="cleanup", interval=300)
OLD_CONFIG = {
    "pulse.config.context": "sessions",
    "pulse.config.mode": "gevent",
    "pulse.config.guard": "true",
    "pulse.task.cleanup.action": "cleanup",
    "pulse.task.cleanup.interval": "300",
}


def problems(config: Any = None, **keywords: Any) -> tuple[str, ...]:
    """Return the problems of a configuration."""
    with pytest.raises(ConfigError) as caught:
        load(config, keywords)
    return caught.value.problems


def with_task(**keys: object) -> dict[str, object]:
    """Return a mapping with the ini keys of a valid task and with further keys."""
    named = {key.replace("__", "."): value for key, value in keys.items()}
    return {"pulse.task.t.action": "a", "pulse.task.t.interval": "5"} | named


def test_all_forms_of_declaration_are_equal() -> None:
    """Ini keys, keywords and the alias `task=` of `tasks=` declare equal settings."""
    keywords = {"context": "sessions", "mode": "gevent", "guard": True}
    by_config = load(OLD_CONFIG, {})
    assert by_config == load(None, keywords | {"tasks": {"cleanup": TASK}})
    assert by_config == load(None, keywords | {"task": {"cleanup": TASK}})
    assert by_config.tasks["cleanup"] == build_definition("cleanup", TASK, context="sessions")


def test_empty_configuration_has_defaults_and_no_tasks() -> None:
    """An empty configuration is valid; tasks may be added later."""
    settings = load(None, {})
    assert (settings.mode, settings.start, dict(settings.tasks)) == ("threading", Start.AUTO, {})


def test_texts_are_converted_to_exact_values() -> None:
    """Each setting has a single type after loading."""
    settings = load(
        {
            "pulse.config.guard": " yes ",
            "pulse.config.lease": "10s",
            "pulse.config.concurrency": "4",
            "pulse.config.start": "Eager",
        },
        {},
    )
    assert (settings.guard, settings.lease_us, settings.concurrency, settings.start) == (
        True,
        10 * SECOND,
        4,
        Start.EAGER,
    )


def test_keyword_overrides_the_key_of_the_same_setting() -> None:
    """Other keys stay in effect."""
    settings = load({"pulse.config.mode": "gevent", "pulse.config.lease": 5}, {"mode": "threading"})
    assert (settings.mode, settings.lease_us) == ("threading", 5 * SECOND)


def test_none_is_ignored() -> None:
    """A wrapper can pass its own optional arguments on."""
    config = {"pulse.config.store": None, "pulse.config.mode": "gevent"}
    tasks = {"t": {"action": "a", "interval": 5, "grace": None}}
    settings = load(config, {"mode": None, "tasks": tasks, "task": None})
    assert (settings.mode, settings.store, settings.tasks["t"].grace_us) == ("gevent", None, None)


def test_tasks_of_keys_and_keywords_are_combined() -> None:
    """The order is the order of declaration, with the tasks of the mapping first."""
    assert list(load(with_task(), {"tasks": {"a": TASK}, "task": {"b": TASK}}).tasks) == [
        "t",
        "a",
        "b",
    ]


def test_tasks_may_be_plain_mappings() -> None:
    """The settings may be texts or Python values."""
    tasks = {"t": {"action": "a", "interval": timedelta(minutes=1), "method": "post"}}
    definition = load(None, {"tasks": tasks}).tasks["t"]
    assert (definition.schedule, definition.method) == (Interval(60), "POST")


def test_disabled_task_is_validated_and_omitted() -> None:
    """A disabled task is read and not scheduled."""
    assert dict(load(with_task(pulse__task__t__enabled="no"), {}).tasks) == {}
    assert problems(with_task(pulse__task__t__enabled="no", pulse__task__t__method="a b"))


@pytest.mark.parametrize(
    "name",
    ["a.b", "action", "interval.action", "a-b_c", "\u6771\u4eac", "my task", "a:b", "x" * 200],
)
def test_name_of_a_task_may_contain_dots_blanks_and_any_letters(name: str) -> None:
    """The last part of the key is the setting."""
    config = {f"pulse.task.{name}.action": "a", f"pulse.task.{name}.interval": "5"}
    assert list(load(config, {}).tasks) == [name]
    assert list(load(None, {"tasks": {name: TASK}}).tasks) == [name]


@pytest.mark.parametrize(
    "name", ["", " ", " a", "a\n", "a\r\nX-B: 1", "\x00", "\ud800", "x" * 201, 5, None], ids=ascii
)
def test_unprintable_name_is_rejected(name: Any) -> None:
    """The name is sent in a header of each run and appears in log lines."""
    (problem,) = problems(tasks={name: TASK})
    key = f"tasks[{shown(name)}]"
    assert problem.startswith(f"{key}: expected a task's name of 1 to 200 printable")


def test_invalid_name_in_an_ini_key_is_reported_with_the_key() -> None:
    """The problem begins with the ini key."""
    (problem,) = problems({"pulse.task..action": "a", "pulse.task..interval": "5"})
    assert problem.startswith("pulse.task.: expected a task's name")


def test_task_that_is_declared_twice_is_rejected() -> None:
    """Two declarations of a task contradict each other."""
    assert problems(with_task(), tasks={"t": TASK}) == ("tasks['t']: this task is declared twice",)
    assert problems(tasks={"t": TASK}, task={"t": TASK}) == (
        "task['t']: this task is declared twice",
    )


def test_timeout_of_the_configuration_applies_to_tasks_without_a_timeout() -> None:
    """A task may have a timeout of its own."""
    tasks = {"plain": TASK, "own": Task(action="a", interval=5, timeout="9s")}
    loaded = load(None, {"timeout": "1m", "tasks": tasks}).tasks
    assert (loaded["plain"].timeout_us, loaded["own"].timeout_us) == (60 * SECOND, 9 * SECOND)


ALL_WRONG = {
    "pulse.config.contxt": "a",
    "pulse.config.mode": "gevnt",
    "pulse.config.store": "sqlite",
    "pulse.config.guard": "maybe",
    "puls.config.lease": "1s",
    "pulse.tsk.cleanup.action": "a",
    "pulse.context": "a",
    "pulse.task.action": "a",
    "pulse.task.cleanup": "a",
    "pulse.task.cleanup.intervall": "5m",
    "pulse.task.cleanup.action": "http://host/",
    "pulse.task.bare.method": "GET",
}


def test_all_problems_are_reported_together() -> None:
    """Each problem is a sentence that begins with the full key."""
    reported = problems(
        ALL_WRONG, lease="0s", tasks={"x": {"action": "a b", "interval": 1}}, drian=1
    )
    assert sorted(problem.partition(": ")[0] for problem in reported) == sorted(
        [
            *set(ALL_WRONG) - {"pulse.task.bare.method"},
            "pulse.task.bare.action",
            "pulse.task.bare.interval",
            "lease",
            "tasks['x'].action",
            "drian",
        ]
    )


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("pulse.config.contxt", "unknown setting; did you mean 'context'?"),
        ("pulse.task.t.intervall", "unknown setting; did you mean 'interval'?"),
        ("pulse.tsk.x.action", "did you mean 'pulse.task.x.action'?"),
        ("pulse.tasks.x.action", "did you mean 'pulse.task.x.action'?"),
        ("pulse.qqq.mode", "expected pulse.config.<setting> or pulse.task.<name>.<setting>"),
        ("puls.config.mode", "did you mean 'pulse.config.mode'?"),
        ("Pulse.Config.mode", "did you mean 'pulse.config.mode'?"),
        ("pulse.mode", "did you mean 'pulse.config.mode'?"),
        ("pulse.zzz", "expected pulse.config.<setting> or pulse.task.<name>.<setting>"),
        ("pulse", "expected pulse.config.<setting> or pulse.task.<name>.<setting>"),
        ("pulse.task.action", "expected pulse.task.<name>.<setting>, got no name"),
        ("pulse.task.t", "expected pulse.task.<name>.<setting>, got no setting"),
    ],
)
def test_unknown_key_is_reported_with_a_suggestion(key: str, sentence: str) -> None:
    """The problem names the key and a similar key."""
    (problem,) = problems(with_task() | {key: "x"})
    assert problem.startswith(f"{key}: ")
    assert problem.endswith(sentence)


def test_misspelt_setting_is_not_also_reported_as_missing() -> None:
    """A mistake is reported once."""
    assert len(problems({"pulse.task.t.action": "a", "pulse.task.t.intervall": "5"})) == 1


@pytest.mark.parametrize("key", ["debug", "sqlalchemy.url", "pulsar.url", "rules.x", "plus.x", 5])
def test_other_keys_of_a_mapping_are_ignored(key: Any) -> None:
    """`config=` may contain all settings of an application."""
    assert load(with_task() | {key: "x"}, {}) == load(with_task(), {})


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"contxt": "a"}, "contxt: unknown setting; did you mean 'context'?"),
        (
            {"coalesce": True},
            "coalesce: unknown setting; did you mean 'misfire', a setting of a task?",
        ),
        ({"tz": "UTC"}, "tz: unknown setting; did you mean 'timezone'?"),
        ({"tasks": [TASK]}, "tasks: expected a mapping of names to Task, got a value of type list"),
        (
            {"tasks": {"t": "a"}},
            "tasks['t']: expected a Task or a mapping of its settings, got 'a'",
        ),
        ({"tasks": {"t": {5: 1, "action": "a", "interval": 1}}}, "tasks['t'].5: unknown setting"),
        (
            {"mode": 5},
            "mode: expected one of threading, gevent, processing, inline, celery, auto, got 5",
        ),
        (
            {"store": "mysql://"},
            "store: expected memory:, sqlite:/// followed by a path, postgresql://",
        ),
        ({"concurrency": 0}, "concurrency: expected a whole number from 1 to 10000, got 0"),
        ({"lease": "500ms"}, "lease: expected a duration of at least 1s, got '500ms'"),
        ({"context": "http://x"}, "context: expected a path such as sessions or a/b"),
    ],
    ids=repr,
)
def test_invalid_keyword_is_reported(keywords: dict[str, Any], sentence: str) -> None:
    """The problem begins with the keyword."""
    (problem,) = problems(**keywords)
    assert problem.startswith(sentence)


def test_config_must_be_a_mapping() -> None:
    """The path of an ini file is not accepted."""
    assert problems("app.ini") == ("config: expected a mapping of keys to values, got 'app.ini'",)


@pytest.mark.parametrize("action", ["/", "/?a=1", "/%2e", "/;a", "/%2F"])
def test_root_is_rejected_as_a_guarded_action(action: str) -> None:
    """The guard would refuse requests for the whole site."""
    task = {"t": Task(action=action, interval=5)}
    (problem,) = problems(guard=True, tasks=task)
    assert problem.startswith("tasks['t'].action: expected a path below the root under guard")
    assert load(None, {"tasks": task}).tasks["t"].path.startswith("/")


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("reports /a/b", ("/sessions/reports", "/a/b")),
        (["/caf%C3%A9"], ("/caf\u00c3\u00a9",)),
    ],
)
def test_guarded_paths_are_relative_to_the_context(value: object, paths: tuple[str, ...]) -> None:
    """A guarded path is converted like the action of a task."""
    settings = load(None, {"guard": True, "guarded": value, "context": "sessions"})
    assert settings.guarded == paths


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"guarded": "/a"}, "guarded: expected together with guard = true, got no guard"),
        ({"guarded": "/a /", "guard": True}, "guarded: expected paths below the root, got '/'"),
        ({"guarded": "", "guard": True}, "guarded: expected paths separated by blanks"),
        ({"guarded": 5, "guard": True}, "guarded: expected paths separated by blanks"),
        ({"guarded": "/a?b", "guard": True}, "guarded: expected paths separated by blanks"),
        ({"guarded": "http://a", "guard": True}, "guarded: expected a path such as cleanup"),
    ],
    ids=repr,
)
def test_invalid_guarded_paths_are_reported(keywords: dict[str, Any], sentence: str) -> None:
    """A guarded path needs a guard and must not be the root."""
    (problem,) = problems(**keywords)
    assert problem.startswith(sentence)


def test_root_as_a_guarded_action_is_reported_with_its_key() -> None:
    """The problem begins with the ini key."""
    (problem,) = problems(with_task(pulse__task__t__action="/", pulse__config__guard="1"))
    assert problem.startswith("pulse.task.t.action: expected a path below the root")


def test_processing_requires_an_application() -> None:
    """Without an ini file, the setting `application` is required."""
    (problem,) = problems({"pulse.config.mode": "processing"})
    assert problem.startswith("pulse.config.application: expected package.module:name")
    assert load(None, {"mode": "processing", "application": "a.b:c"}).application == "a.b:c"


def test_application_section_requires_an_ini_file() -> None:
    """A section name is invalid without an ini file."""
    (problem,) = problems(application="main")
    assert problem.endswith("got 'main', a section without an ini file")


def test_digest_depends_only_on_tasks_and_base_url() -> None:
    """The order of declaration and settings of a single process have no effect."""
    one, two = Task(action="a", interval=1), Task(action="b", interval="1m")
    here = load(None, {"tasks": {"one": one, "two": two}, "mode": "gevent", "concurrency": 3})
    there = load(
        {"pulse.task.two.action": "/b", "pulse.task.two.interval": "60"}, {"tasks": {"one": one}}
    )
    assert here.digest == there.digest


@pytest.mark.parametrize(
    "keywords",
    [
        {"tasks": {"other": TASK}},
        {"tasks": {"t": Task(action="cleanup", interval=301)}},
        {"tasks": {"t": TASK}, "context": "a"},
        {"tasks": {"t": TASK}, "timeout": 5},
        {"tasks": {"t": TASK}, "base_url": "https://localhost"},
    ],
    ids=["name", "interval", "context", "timeout", "base_url"],
)
def test_digest_changes_with_calls_and_schedules(keywords: dict[str, Any]) -> None:
    """Processes with different tasks have different digests."""
    assert load(None, keywords).digest != load(None, {"tasks": {"t": TASK}}).digest


def test_origin_without_an_ini_file_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The origin names the default store."""
    monkeypatch.chdir(tmp_path)
    assert Path(load(None, {}).origin) == tmp_path.resolve()


def test_removed_working_directory_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deploy may remove the folder of a running process."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert load(None, {}).origin == "/"


def test_invalid_headers_are_reported_with_all_other_problems(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The problems name the headers as the user wrote them."""
    monkeypatch.delenv("CRON_KEY", raising=False)
    by_key = with_task(pulse__task__t__headers="X-Key: ${CRON_KEY}")
    tasks = {"own": Task(action="a", interval=5, headers={"X-Pulse-Task": "x"})}
    assert problems(by_key, tasks=tasks, lease=0.5) == (
        "pulse.task.t.headers: X-Key needs the environment variable CRON_KEY, which is not set",
        "tasks['own'].headers: X-Pulse-Task is set by pulse itself",
        "lease: expected a duration of at least 1s, got 0.5",
    )


def test_disabled_task_needs_no_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment variables of a disabled task may be missing."""
    monkeypatch.delenv("CRON_KEY", raising=False)
    task = Task(action="a", interval=5, headers={"X-Key": "${CRON_KEY}"}, enabled=False)
    assert load(None, {"tasks": {"t": task}}).tasks == {}


def test_misspelt_tasks_keyword_gets_a_suggestion() -> None:
    """`tasks` is suggested although it is no setting."""
    assert problems(tasls={"t": TASK}) == ("tasls: unknown setting; did you mean 'tasks'?",)


@pytest.mark.parametrize("host", ["ü..example", "ü" + 70 * "x"], ids=["empty label", "long label"])
def test_host_without_an_ascii_form_is_rejected(host: str) -> None:
    """The problem is not an encoding error."""
    assert problems(base_url=f"http://{host}")[0].startswith("base_url: expected a URL such as")


@pytest.mark.parametrize("mode", ["", None, 5], ids=repr)
def test_empty_mode_is_reported_with_the_known_modes(mode: object) -> None:
    """An empty mode is reported like an unknown mode."""
    assert (
        "pulse.config.mode: expected one of threading"
        in problems({"pulse.config.mode": mode if mode is not None else " "})[0]
    )


def test_store_with_an_invalid_file_name_is_rejected() -> None:
    """The error is raised at loading and names the setting."""
    assert problems(store="sqlite:////srv/\0.db")[0].startswith("store: expected memory:, sqlite")


def test_long_name_is_truncated_in_the_error() -> None:
    """The error stays readable."""
    assert len(problems(tasks={"x" * 10_000: TASK})[0]) < 300


def test_time_zone_of_the_configuration_applies_to_tasks_without_a_zone() -> None:
    """A task may have a time zone of its own."""
    config = {
        "pulse.config.timezone": "Europe/Berlin",
        "pulse.task.here.action": "here",
        "pulse.task.here.cron": "0 7 * * *",
        "pulse.task.there.action": "there",
        "pulse.task.there.cron": "0 7 * * *",
        "pulse.task.there.timezone": "America/New_York",
    }
    tasks = load(config, {}).tasks
    assert tasks["here"].schedule.to_text()["timezone"] == "Europe/Berlin"
    assert tasks["there"].schedule.to_text()["timezone"] == "America/New_York"


def test_unknown_time_zone_is_reported_with_a_suggestion() -> None:
    """The problem suggests a similar name."""
    problem = problems(timezone="Europe/Berln")[0]
    assert problem.startswith("timezone: expected a time zone")
    assert "did you mean 'Europe/Berlin'" in problem
