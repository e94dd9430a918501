"""Keywords, mappings in the ini dialect, and both together."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pulse.clock import SECOND
from pulse.config.loader import load
from pulse.core.policies import Start
from pulse.core.task import Task, define
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
    """Return what is wrong with a configuration."""
    with pytest.raises(ConfigError) as caught:
        load(config, keywords)
    return caught.value.problems


def with_task(**keys: object) -> dict[str, object]:
    """Return a mapping in the ini dialect with one good task and further keys."""
    named = {key.replace("__", "."): value for key, value in keys.items()}
    return {"pulse.task.t.action": "a", "pulse.task.t.interval": "5"} | named


def test_the_old_forms_mean_the_same() -> None:
    """Ini keys, keywords, and `task=` as another spelling of `tasks=`."""
    words = {"context": "sessions", "mode": "gevent", "guard": True}
    by_config = load(OLD_CONFIG, {})
    assert by_config == load(None, words | {"tasks": {"cleanup": TASK}})
    assert by_config == load(None, words | {"task": {"cleanup": TASK}})
    assert by_config.tasks["cleanup"] == define("cleanup", TASK, context="sessions")


def test_without_anything_there_are_defaults_and_no_tasks() -> None:
    """An empty configuration is a good one: tasks may come later."""
    settings = load(None, {})
    assert (settings.mode, settings.start, dict(settings.tasks)) == ("threading", Start.AUTO, {})


def test_words_become_exact_values() -> None:
    """Each setting has one type after loading."""
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


def test_a_keyword_wins_over_the_key_of_the_same_setting() -> None:
    """The call is nearer than the file."""
    settings = load({"pulse.config.mode": "gevent", "pulse.config.lease": 5}, {"mode": "threading"})
    assert (settings.mode, settings.lease_us) == ("threading", 5 * SECOND)


def test_none_stands_for_not_given() -> None:
    """So a wrapper can pass its own optional arguments on."""
    config = {"pulse.config.store": None, "pulse.config.mode": "gevent"}
    tasks = {"t": {"action": "a", "interval": 5, "grace": None}}
    settings = load(config, {"mode": None, "tasks": tasks, "task": None})
    assert (settings.mode, settings.store, settings.tasks["t"].grace_us) == ("gevent", None, None)


def test_tasks_of_both_sources_stand_side_by_side() -> None:
    """The order is that of declaration, the mapping's first."""
    assert list(load(with_task(), {"tasks": {"a": TASK}, "task": {"b": TASK}}).tasks) == [
        "t",
        "a",
        "b",
    ]


def test_tasks_may_be_plain_mappings() -> None:
    """With the settings as words or as natural values."""
    tasks = {"t": {"action": "a", "interval": timedelta(minutes=1), "method": "post"}}
    definition = load(None, {"tasks": tasks}).tasks["t"]
    assert (definition.schedule, definition.method) == (Interval(60), "POST")


def test_a_disabled_task_is_checked_and_left_out() -> None:
    """Off does not mean unread."""
    assert dict(load(with_task(pulse__task__t__enabled="no"), {}).tasks) == {}
    assert problems(with_task(pulse__task__t__enabled="no", pulse__task__t__method="a b"))


@pytest.mark.parametrize(
    "name",
    ["a.b", "action", "interval.action", "a-b_c", "\u6771\u4eac", "my task", "a:b", "x" * 200],
)
def test_names_of_tasks(name: str) -> None:
    """Dots, dashes, blanks inside and letters of any script are fine: the setting is last."""
    config = {f"pulse.task.{name}.action": "a", f"pulse.task.{name}.interval": "5"}
    assert list(load(config, {}).tasks) == [name]
    assert list(load(None, {"tasks": {name: TASK}}).tasks) == [name]


@pytest.mark.parametrize(
    "name", ["", " ", " a", "a\n", "a\r\nX-B: 1", "\x00", "\ud800", "x" * 201, 5, None], ids=ascii
)
def test_a_name_that_fits_no_header_is_refused(name: Any) -> None:
    """The name is sent with each run and stands in logs."""
    (problem,) = problems(tasks={name: TASK})
    place = f"tasks[{shown(name)}]"
    assert problem.startswith(f"{place}: expected a task's name of 1 to 200 printable")


def test_a_name_is_refused_by_its_key() -> None:
    """In the ini dialect the key is named."""
    (problem,) = problems({"pulse.task..action": "a", "pulse.task..interval": "5"})
    assert problem.startswith("pulse.task.: expected a task's name")


def test_a_task_that_is_declared_twice_is_refused() -> None:
    """Which of them is meant cannot be told."""
    assert problems(with_task(), tasks={"t": TASK}) == ("tasks['t']: this task is declared twice",)
    assert problems(tasks={"t": TASK}, task={"t": TASK}) == (
        "task['t']: this task is declared twice",
    )


def test_the_timeout_of_tasks_that_set_none() -> None:
    """`pulse.config.timeout` is for all tasks without their own."""
    tasks = {"plain": TASK, "own": Task(action="a", interval=5, timeout="9s")}
    found = load(None, {"timeout": "1m", "tasks": tasks}).tasks
    assert (found["plain"].timeout_us, found["own"].timeout_us) == (60 * SECOND, 9 * SECOND)


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


def test_all_problems_are_told_together() -> None:
    """One sentence for each, which begins with the full key."""
    found = problems(ALL_WRONG, lease="0s", tasks={"x": {"action": "a b", "interval": 1}}, drian=1)
    assert sorted(problem.partition(": ")[0] for problem in found) == sorted(
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
def test_a_misspelt_key_is_told_the_nearest(key: str, sentence: str) -> None:
    """The key is named, and the one that was probably meant."""
    (problem,) = problems(with_task() | {key: "x"})
    assert problem.startswith(f"{key}: ")
    assert problem.endswith(sentence)


def test_a_misspelt_setting_is_not_missing_as_well() -> None:
    """One mistake is one sentence."""
    assert len(problems({"pulse.task.t.action": "a", "pulse.task.t.intervall": "5"})) == 1


@pytest.mark.parametrize("key", ["debug", "sqlalchemy.url", "pulsar.url", "rules.x", "plus.x", 5])
def test_keys_of_others_are_let_be(key: Any) -> None:
    """`config=` may be an application's whole settings."""
    assert load(with_task() | {key: "x"}, {}) == load(with_task(), {})


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"contxt": "a"}, "contxt: unknown setting; did you mean 'context'?"),
        ({"tasks": [TASK]}, "tasks: expected a mapping of names to Task, got [Task("),
        (
            {"tasks": {"t": "a"}},
            "tasks['t']: expected a Task or a mapping of its settings, got 'a'",
        ),
        ({"tasks": {"t": {5: 1, "action": "a", "interval": 1}}}, "tasks['t'].5: unknown setting"),
        ({"mode": 5}, "mode: expected one of threading, gevent, processing, inline, auto, got 5"),
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
def test_a_bad_keyword_is_named(keywords: dict[str, Any], sentence: str) -> None:
    """The sentence begins with the keyword."""
    (problem,) = problems(**keywords)
    assert problem.startswith(sentence)


def test_what_is_no_mapping_is_no_config() -> None:
    """The path of an ini file, for one, is not read."""
    assert problems("app.ini") == ("config: expected a mapping of keys to values, got 'app.ini'",)


@pytest.mark.parametrize("action", ["/", "/?a=1", "/%2e", "/;a", "/%2F"])
def test_the_root_cannot_be_guarded(action: str) -> None:
    """The whole site would be refused."""
    task = {"t": Task(action=action, interval=5)}
    (problem,) = problems(guard=True, tasks=task)
    assert problem.startswith("tasks['t'].action: expected a path below the root under guard")
    assert load(None, {"tasks": task}).tasks["t"].path.startswith("/")


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        ("reports /a/b", ("/sessions/reports", "/a/b")),
        (["/caf%C3%A9"], ("/caf\u00c3\u00a9",)),
    ],
)
def test_further_paths_are_guarded(words: object, paths: tuple[str, ...]) -> None:
    """They lie where an action of the same words does, and read as the guard compares them."""
    settings = load(None, {"guard": True, "guarded": words, "context": "sessions"})
    assert settings.guarded == paths


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"guarded": "/a"}, "guarded: expected guard = true beside it, got no guard"),
        ({"guarded": "/a /", "guard": True}, "guarded: expected paths below the root, got '/'"),
        ({"guarded": "", "guard": True}, "guarded: expected paths with blanks between them"),
        ({"guarded": 5, "guard": True}, "guarded: expected paths with blanks between them"),
        ({"guarded": "/a?b", "guard": True}, "guarded: expected paths with blanks between them"),
        ({"guarded": "http://a", "guard": True}, "guarded: expected a path such as cleanup"),
    ],
    ids=repr,
)
def test_paths_that_cannot_be_guarded_are_named(keywords: dict[str, Any], sentence: str) -> None:
    """Without a guard nothing would be, and the root is the whole site."""
    (problem,) = problems(**keywords)
    assert problem.startswith(sentence)


def test_the_guarded_root_is_named_by_its_key() -> None:
    """In the ini dialect too."""
    (problem,) = problems(with_task(pulse__task__t__action="/", pulse__config__guard="1"))
    assert problem.startswith("pulse.task.t.action: expected a path below the root")


def test_child_processes_must_find_the_application() -> None:
    """Without an ini file the setting that says where is required, and named."""
    (problem,) = problems({"pulse.config.mode": "processing"})
    assert problem.startswith("pulse.config.application: expected package.module:name")
    assert load(None, {"mode": "processing", "application": "a.b:c"}).application == "a.b:c"


def test_a_section_needs_an_ini_file() -> None:
    """A bare word cannot be found otherwise."""
    (problem,) = problems(application="main")
    assert problem.endswith("got 'main', a section of no file")


def test_all_processes_with_the_same_tasks_have_the_same_digest() -> None:
    """The order of declaration and what concerns one process alone do not matter."""
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
def test_the_digest_changes_with_what_is_called_and_when(keywords: dict[str, Any]) -> None:
    """Processes that would act differently must not take each other for equals."""
    assert load(None, keywords).digest != load(None, {"tasks": {"t": TASK}}).digest


def test_the_origin_is_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the default store where no ini file is known."""
    monkeypatch.chdir(tmp_path)
    assert Path(load(None, {}).origin) == tmp_path.resolve()


def test_a_working_directory_that_is_gone_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deploy may remove the folder under a process."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert load(None, {}).origin == "/"


def test_headers_that_cannot_be_sent_are_told_with_all_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are named as the user wrote them, beside what is wrong elsewhere."""
    monkeypatch.delenv("CRON_KEY", raising=False)
    by_key = with_task(pulse__task__t__headers="X-Key: ${CRON_KEY}")
    tasks = {"own": Task(action="a", interval=5, headers={"X-Pulse-Task": "x"})}
    assert problems(by_key, tasks=tasks, lease=0.5) == (
        "pulse.task.t.headers: X-Key needs the environment variable CRON_KEY, which is not set",
        "tasks['own'].headers: X-Pulse-Task is set by pulse itself",
        "lease: expected a duration of at least 1s, got 0.5",
    )


def test_a_disabled_task_needs_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the task is switched off its variables may be missing."""
    monkeypatch.delenv("CRON_KEY", raising=False)
    task = Task(action="a", interval=5, headers={"X-Key": "${CRON_KEY}"}, enabled=False)
    assert load(None, {"tasks": {"t": task}}).tasks == {}


def test_a_misspelt_keyword_for_tasks_is_recognised() -> None:
    """The keyword is no setting, but it is what was meant."""
    assert problems(tasls={"t": TASK}) == ("tasls: unknown setting; did you mean 'tasks'?",)


@pytest.mark.parametrize("host", ["ü..example", "ü" + 70 * "x"], ids=["empty label", "long label"])
def test_a_host_without_an_ascii_form_is_refused_by_its_key(host: str) -> None:
    """It is an error like the others, not one of the encoding."""
    assert problems(base_url=f"http://{host}")[0].startswith("base_url: expected a URL such as")


@pytest.mark.parametrize("mode", ["", None, 5], ids=repr)
def test_no_word_at_all_is_told_which_there_are(mode: object) -> None:
    """As a wrong one is."""
    assert (
        "pulse.config.mode: expected one of threading"
        in problems({"pulse.config.mode": mode if mode is not None else " "})[0]
    )


def test_a_store_no_file_can_have_is_refused() -> None:
    """The system would refuse it when the process begins, and without the key."""
    assert problems(store="sqlite:////srv/\0.db")[0].startswith("store: expected memory:, sqlite")


def test_an_endless_name_of_a_task_is_cut() -> None:
    """The error stays readable."""
    assert len(problems(tasks={"x" * 10_000: TASK})[0]) < 300


def test_the_time_zone_is_that_of_tasks_which_name_none() -> None:
    """A task's own zone wins."""
    config = {
        "pulse.config.timezone": "Europe/Berlin",
        "pulse.task.here.action": "here",
        "pulse.task.here.cron": "0 7 * * *",
        "pulse.task.there.action": "there",
        "pulse.task.there.cron": "0 7 * * *",
        "pulse.task.there.timezone": "America/New_York",
    }
    tasks = load(config, {}).tasks
    assert tasks["here"].schedule.spell()["timezone"] == "Europe/Berlin"
    assert tasks["there"].schedule.spell()["timezone"] == "America/New_York"


def test_an_unknown_time_zone_is_told_with_the_nearest() -> None:
    """Of the configuration and of a task alike."""
    told = problems(timezone="Europe/Berln")[0]
    assert told.startswith("timezone: expected a time zone")
    assert "did you mean 'Europe/Berlin'" in told
