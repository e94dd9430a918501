from __future__ import annotations

import inspect
import pickle
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse.clock import SECOND
from pulse.core.action import read_action
from pulse.core.policies import Misfire, OnAbandoned, Overlap, Scope
from pulse.core.task import DEFINITION_DEFAULTS, Task, TaskDefinition, build_definition
from pulse.core.task_settings import TASK_SETTINGS, read_task, to_settings
from pulse.errors import BadValueError, ConfigError
from pulse.schedule.cron import Cron
from pulse.schedule.interval import Interval
from pulse.schedule.once import Once
from pulse.settings.setting import read

CRON: dict[str, Any] = {"interval": None, "cron": "@daily"}
ONCE: dict[str, Any] = {"interval": None, "at": "2027-01-01"}


def defined(context: str = "", **words: Any) -> TaskDefinition:
    """Return the definition of a task that requests cleanup every five minutes, with *words*."""
    return build_definition(
        "t", Task(**({"action": "cleanup", "interval": 300} | words)), context=context
    )


@pytest.mark.parametrize(
    ("context", "action", "path"),
    [
        ("", "cleanup", "/cleanup"),
        ("sessions", "cleanup", "/sessions/cleanup"),
        ("/sessions/", "cleanup", "/sessions/cleanup"),
        ("a/b", "c/d", "/a/b/c/d"),
        ("sessions", "/admin/cleanup", "/admin/cleanup"),
        ("sessions", "cleanup/", "/sessions/cleanup/"),
        ("sessions", " cleanup ", "/sessions/cleanup"),
        ("", "a%20b", "/a b"),
        ("", "a%2Fb", "/a/b"),
        ("", "100%", "/100%"),
        ("", "caf\u00e9", "/caf\u00c3\u00a9"),
        ("", "caf%C3%A9", "/caf\u00c3\u00a9"),
        ("", "%FF", "/\u00ff"),
        ("", "v1/jobs:run", "/v1/jobs:run"),
    ],
)
def test_path_is_the_one_that_a_server_would_pass(context: str, action: str, path: str) -> None:
    """PATH_INFO is unquoted bytes as latin-1 characters (PEP 3333), below the context."""
    assert defined(context, action=action).path == path


def test_query_is_not_part_of_the_path() -> None:
    """The app receives the query unchanged."""
    found = defined(action="cleanup?next=http://x/%20y&a=1?b")
    assert (found.path, found.query) == ("/cleanup", "next=http://x/%20y&a=1?b")


@pytest.mark.parametrize(
    ("action", "without"),
    [
        ("", "got ''"),
        ("  ", "got '  '"),
        (None, "got None"),
        ("http://host/cleanup", "without scheme and host"),
        ("//host/cleanup", "without scheme and host"),
        ("clean up", "without blanks (write %20, in an ini file %%20)"),
        ("clean\nup", "without blanks (write %20, in an ini file %%20)"),
        ("clean\tup", "without blanks"),
        ("clean\u00a0up", "without blanks"),
        ("\ud800", "without blanks"),
        ("cleanup#top", "without a fragment"),
        ("?a=1", "before the query"),
        ("../cleanup", "without dot segments"),
        ("/a/./b", "without dot segments"),
        ("a/..?x", "without dot segments"),
    ],
    ids=ascii,
)
def test_invalid_action_is_refused(action: object, without: str) -> None:
    """The message shows a path, and says what is invalid."""
    with pytest.raises(BadValueError, match="expected a path such as cleanup or") as caught:
        read_action(action)
    assert without in str(caught.value)


@pytest.mark.parametrize("action", ["a...b", "a/.well-known/b", "..a/b..", "a?x=.."])
def test_dots_in_names_are_accepted(action: str) -> None:
    """Only segments that consist of dots are refused."""
    assert read_action(action) == action


def test_defaults_are_the_documented_ones() -> None:
    """The task sets only path and interval."""
    found = defined()
    assert found == TaskDefinition(
        name="t",
        path="/cleanup",
        query="",
        schedule=Interval(300),
        digest=found.digest,
        method="GET",
        headers=(),
        body=b"",
        run_at_start=False,
        timeout_us=180 * SECOND,
        overlap=Overlap.SKIP,
        max_unfinished=1,
        misfire=Misfire.LATEST,
        grace_us=None,
        scope=Scope.FLEET,
        on_abandoned=OnAbandoned.RECORD,
        retries=0,
        retry_min_backoff_us=5 * SECOND,
        retry_max_backoff_us=3_600 * SECOND,
        retry_max_doublings=5,
    )


EVERYTHING: dict[str, Any] = {
    "action": "/x?y=1",
    "interval": timedelta(minutes=1),
    "start": datetime(2027, 1, 1, tzinfo=UTC),
    "run_at_start": "yes",
    "method": "post",
    "headers": {"X-Token": "${TOKEN}"},
    "body": "caf\u00e9",
    "timeout": "30s",
    "overlap": "allow",
    "max_running": "4",
    "misfire": "all",
    "grace": 600,
    "scope": "host",
    "on_abandoned": "rerun",
}


def test_every_setting_reaches_the_definition() -> None:
    """Text and Python values become exact values."""
    found = build_definition("t", Task(**EVERYTHING))
    assert found == TaskDefinition(
        name="t",
        path="/x",
        query="y=1",
        schedule=Interval(60, start="2027-01-01"),
        digest=found.digest,
        method="POST",
        headers=(("X-Token", "${TOKEN}"),),
        body=b"caf\xc3\xa9",
        run_at_start=True,
        timeout_us=30 * SECOND,
        overlap=Overlap.ALLOW,
        max_unfinished=4,
        misfire=Misfire.ALL,
        grace_us=600 * SECOND,
        scope=Scope.HOST,
        on_abandoned=OnAbandoned.RERUN,
    )


RETRIES: dict[str, Any] = {
    "retries": "3",
    "retry_min_backoff": "10s",
    "retry_max_backoff": 300,
    "retry_max_doublings": "2",
}


def test_settings_of_retries_reach_the_definition() -> None:
    """Text and Python values become exact values."""
    found = defined(**RETRIES)
    assert (found.retries, found.retry_max_doublings) == (3, 2)
    assert found.retry_min_backoff_us == 10 * SECOND
    assert found.retry_max_backoff_us == 300 * SECOND


@pytest.mark.parametrize("name", RETRIES)
def test_settings_of_retries_are_in_the_digest(name: str) -> None:
    """A changed setting changes the digest."""
    assert defined(**{name: RETRIES[name]}).digest != defined().digest


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"retry_min_backoff": "2h"}, "expected at least retry_min_backoff, 2h, got 1h"),
        ({"retry_max_backoff": 1}, "expected at least retry_min_backoff, 5s, got 1s"),
    ],
    ids=["longer than the default", "shorter than the default"],
)
def test_shortest_wait_above_the_longest_is_refused(words: dict[str, Any], expected: str) -> None:
    """The error names the setting of the longest wait."""
    with pytest.raises(ConfigError, match=f"retry_max_backoff: {expected}"):
        Task(action="a", interval=60, **words)


def test_every_keyword_of_task_declares_its_setting() -> None:
    """The table has the settings in the order of the keywords."""
    assert tuple(TASK_SETTINGS) == Task.__struct_fields__


OF_NO_SETTING = {"name", "path", "query", "schedule", "digest", "max_unfinished"}
"""Fields of a definition that are computed from the name, or from several settings."""


def test_every_field_of_a_definition_has_the_name_of_one_setting() -> None:
    """A new setting is a keyword of `Task`, and at most a field of the definition in addition."""
    fields = [f"{name}_us" if row.is_span else name for name, row in TASK_SETTINGS.items()]
    derived = set(TaskDefinition.__struct_fields__) - OF_NO_SETTING
    assert sorted(field for field in fields if field in derived) == sorted(derived)


@pytest.mark.parametrize("field", sorted(DEFINITION_DEFAULTS.keys() - OF_NO_SETTING))
def test_value_of_a_setting_reaches_the_field_of_its_name(field: str) -> None:
    """A definition holds the exact value, whatever the setting is."""
    row = TASK_SETTINGS[field.removesuffix("_us")]
    assert getattr(defined(**{row.name: row.example}), field) == row.convert(row.example)


@pytest.mark.parametrize("row", TASK_SETTINGS.values(), ids=lambda row: row.name)
def test_text_of_a_setting_is_read_as_the_same_value(row: Any) -> None:
    """Stores keep run-time tasks as such texts."""
    value = row.convert(row.example)
    assert row.convert(row.text(value)) == value


def test_signature_of_task_shows_types_alone() -> None:
    """`help(Task)` is readable: no setting is part of an annotation."""
    parameters = inspect.signature(Task).parameters
    assert parameters["retries"].annotation == int | str
    assert not [one for one in parameters.values() if "Setting(" in str(one)]


@pytest.mark.parametrize("row", TASK_SETTINGS.values(), ids=lambda row: row.name)
def test_examples_in_the_table_are_valid(row: Any) -> None:
    """A user can copy the examples of the reference page."""
    values, problems = read(TASK_SETTINGS, {row.name: row.example})
    assert (list(values), problems) == ([row.name], [])


@pytest.mark.parametrize("row", TASK_SETTINGS.values(), ids=lambda row: row.name)
def test_every_setting_has_help_kind_and_default(row: Any) -> None:
    """The help is a sentence."""
    assert row.help[0].isupper()
    assert row.help.endswith(".")
    assert row.kind
    assert row.default


def test_one_run_may_be_unfinished_unless_runs_may_overlap() -> None:
    """`max_running` has an effect only with `overlap = allow`."""
    assert defined(max_running=4).max_unfinished == 1
    assert defined(overlap="allow").max_unfinished == 10


@pytest.mark.parametrize(
    ("overlap", "expected"), [("skip", (1, 1)), ("wait", (2, 1)), ("allow", (4, 4))]
)
def test_overlap_limits_unfinished_and_claimed_runs(
    overlap: str, expected: tuple[int, int]
) -> None:
    """With `wait` one run is claimed, and one waits."""
    found = defined(overlap=overlap, max_running=4)
    assert (found.max_unfinished, found.max_concurrent) == expected


@pytest.mark.parametrize(
    ("misfire", "grace_us"), [("latest", None), ("all", None), ("skip", 60 * SECOND)]
)
def test_default_grace_is_a_minute_with_skip_and_unlimited_otherwise(
    misfire: str, grace_us: int | None
) -> None:
    """A catch-up is always late, and `skip` excludes catch-ups."""
    assert defined(misfire=misfire).grace_us == grace_us


def test_grace_of_zero_is_not_unlimited() -> None:
    """Zero is a value; None means without limit."""
    assert defined(grace=0).grace_us == 0


def test_default_timeout_can_be_configured() -> None:
    """A task with a timeout of its own keeps it."""
    plain, own = Task(action="a", interval=1), Task(action="a", interval=1, timeout=5)
    assert build_definition("t", plain, timeout_us=7).timeout_us == 7
    assert build_definition("t", own, timeout_us=7).timeout_us == 5 * SECOND


def test_error_names_all_problems_of_a_task() -> None:
    """Each sentence begins with the keyword."""
    with pytest.raises(ConfigError) as caught:
        Task(action="a b", interval=-1, misfire="lates", body=5)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "action",
        "interval",
        "body",
        "misfire",
    ]


def test_task_without_a_schedule_is_refused() -> None:
    """The error shows two kinds of schedules."""
    with pytest.raises(ConfigError) as caught:
        Task(action="a")
    assert caught.value.problems == (
        "interval: expected a schedule such as interval = 300 or cron = 0 7 * * mon-fri, got none",
    )


def test_task_with_two_schedules_is_refused() -> None:
    """The message names both."""
    with pytest.raises(ConfigError) as caught:
        Task(action="a", interval=300, cron="@daily")
    assert caught.value.problems == (
        "cron: expected exactly one of interval, cron, at, every, got interval and cron",
    )


def test_invalid_schedule_is_one_problem() -> None:
    """The schedule does not count as missing in addition."""
    with pytest.raises(ConfigError) as caught:
        Task(action="a", cron="61 * * * *")
    (problem,) = caught.value.problems
    assert problem.startswith("cron: ")


def test_misspelt_schedule_is_one_problem() -> None:
    """The hint at the setting is the only problem."""
    _, problems = read_task({"action": "a", "intervall": 3})
    assert problems == ["intervall: unknown setting; did you mean 'interval'?"]


def test_default_time_zone_applies_to_tasks_without_a_time_zone() -> None:
    """`pulse.config.timezone` applies to cron expressions and to dates without offset."""
    berlin = build_definition("t", Task(action="a", **CRON), timezone="Europe/Berlin")
    assert berlin.schedule == Cron("@daily", timezone="Europe/Berlin")
    once = build_definition("t", Task(action="a", at="2027-01-01T00:00"), timezone="Europe/Berlin")
    assert once.schedule == Once("2026-12-31T23:00:00Z")


def test_unknown_keyword_is_a_type_error() -> None:
    """Task behaves like other Python classes."""
    with pytest.raises(TypeError, match="intervall"):
        Task(action="a", intervall=3)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"interval": 300}, {"interval": "5m"}),
        ({"interval": 300}, {"interval": timedelta(minutes=5)}),
        ({}, {"timeout": "3m"}),
        ({}, {"method": "get"}),
        ({}, {"max_running": 5}),
        ({}, {"headers": []}),
        ({}, {"misfire": "latest", "overlap": Overlap.SKIP, "scope": "FLEET"}),
        ({"misfire": "skip"}, {"misfire": "skip", "grace": 60}),
        ({"start": "2027-01-01"}, {"start": datetime(2027, 1, 1, tzinfo=UTC)}),
        ({"action": "/cleanup"}, {"action": "cleanup"}),
        ({**CRON, "timezone": "UTC"}, CRON),
        ({**CRON, "cron": "0  7 * * mon-fri"}, {**CRON, "cron": "0 7 * * mon-fri"}),
        ({**ONCE, "at": "2027-01-01T01:00:00+01:00"}, {**ONCE, "at": "2027-01-01"}),
    ],
    ids=repr,
)
def test_digest_does_not_depend_on_the_spelling(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Two processes with the same declaration have the same digest."""
    assert defined(**one).digest == defined(**other).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"jitter": 5}, {}),
        ({"end": "2027-01-01"}, {}),
        ({**CRON, "timezone": "Europe/Berlin"}, CRON),
        ({**CRON, "cron": "0 8 * * mon-fri"}, CRON),
        (ONCE, CRON),
        ({"interval": None, "every": "1 day"}, {}),
    ],
    ids=repr,
)
def test_digest_changes_with_the_schedule(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Kind, zone, bounds and jitter are part of the declaration."""
    assert defined(**one).digest != defined(**other).digest


@pytest.mark.parametrize("name", sorted(set(EVERYTHING) - {"max_running"}))
def test_digest_changes_with_every_setting(name: str) -> None:
    """Every changed setting is another declaration."""
    assert defined(**{name: EVERYTHING[name]}).digest != defined().digest


def test_digest_is_equal_in_all_releases() -> None:
    """An upgrade of pulse alone replaces no task in a rolling deploy."""
    assert defined("sessions").digest == "716a3180cfced4b2"
    assert build_definition("t", Task(**EVERYTHING)).digest == "ac8f67f3f355b8d0"


def test_digest_does_not_depend_on_the_name() -> None:
    """The row of the store has the name."""
    task = Task(action="a", interval=1)
    assert build_definition("one", task).digest == build_definition("two", task).digest


MOMENTS = st.datetimes(
    timezones=st.none() | st.just(UTC),
    min_value=datetime(1980, 1, 1),  # noqa: DTZ001 - the zone is given apart
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001 - likewise
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
SCHEDULES = st.one_of(
    st.fixed_dictionaries(
        {"interval": st.integers(1_000, 10**14).map(lambda us: timedelta(microseconds=us))},
        optional={"start": MOMENTS},
    ),
    st.fixed_dictionaries(
        {"cron": st.sampled_from(["* * * * *", "0 7 * * mon-fri", "@daily", "*/5 0 0 1 1 *"])},
        optional={"timezone": ZONES, "start": MOMENTS},
    ),
    st.fixed_dictionaries(
        {"every": st.sampled_from(["1 day", "2 Weeks", "1 month"])},
        optional={"timezone": ZONES, "start": MOMENTS},
    ),
    st.fixed_dictionaries({"at": MOMENTS}, optional={"timezone": ZONES}),
)
WORDS = st.fixed_dictionaries(
    {"action": st.from_regex(r"/?[a-z\u00e0-\u00ff]{1,5}(/[a-z]{1,3})?", fullmatch=True)},
    optional={
        "jitter": st.integers(0, 999),
        "run_at_start": st.booleans(),
        "method": st.sampled_from(["GET", "POST", "PUT"]),
        "headers": st.lists(
            st.tuples(st.from_regex(r"X-[A-Za-z]{1,5}", fullmatch=True), st.just("a: b")),
            max_size=2,
        ),
        "body": st.binary(max_size=6) | st.text(st.characters(codec="utf-8"), max_size=6),
        "timeout": st.integers(1, 999),
        "overlap": st.sampled_from(Overlap),
        "max_running": st.integers(1, 9),
        "misfire": st.sampled_from(Misfire),
        "grace": st.integers(0, 999),
        "scope": st.sampled_from(Scope),
        "on_abandoned": st.sampled_from(OnAbandoned),
        "retries": st.integers(0, 100),
        "retry_min_backoff": st.integers(1, 99),
        "retry_max_backoff": st.integers(99, 999),
        "retry_max_doublings": st.integers(0, 60),
        "enabled": st.booleans(),
    },
)


@given(WORDS, SCHEDULES)
def test_settings_of_a_task_declare_the_same_task(
    words: dict[str, Any], schedule: dict[str, Any]
) -> None:
    """Stores keep tasks as settings: `Task(**to_settings(task))` has the same definition."""
    task = Task(**words, **schedule)
    spelt = to_settings(task)
    assert all(isinstance(word, str) for word in spelt.values())
    assert build_definition("t", Task(**spelt)) == build_definition("t", task)
    assert to_settings(Task(**spelt)) == spelt


def test_settings_of_a_task_omit_defaults() -> None:
    """Defaults may change; a stored declaration keeps its meaning."""
    assert to_settings(Task(action="a", interval=300)) == {"action": "a", "interval": "5m"}


def test_pickled_definition_is_equal() -> None:
    """Definitions are sent to other processes."""
    definition = build_definition("t", Task(**EVERYTHING))
    assert pickle.loads(pickle.dumps(definition)) == definition  # noqa: S301 - its own pickle


FOREIGN = [
    ("coalesce", True, "misfire"),
    ("max_instances", 3, "max_running"),
    ("misfire_grace_time", 60, "grace"),
    ("seconds", 30, "interval"),
    ("minutes", 5, "interval"),
    ("hour", 7, "cron"),
    ("crontab", "0 7 * * *", "cron"),
    ("run_date", "2027-01-01", "at"),
    ("schedule", "0 7 * * *", "cron"),
    ("intervall", 5, "interval"),
    ("hedaers", "X-A: 1", "headers"),
    ("time_out", 5, "timeout"),
]
"""A keyword of another scheduler or a misspelt one, and the setting that is meant."""


@pytest.mark.parametrize(("keyword", "value", "meant"), FOREIGN)
def test_unknown_keyword_is_refused_with_a_similar_setting(
    keyword: str, value: object, meant: str
) -> None:
    """The error is that of an unknown key in an ini file."""
    with pytest.raises((TypeError, ConfigError)) as refused:
        Task(action="/work", **{keyword: value})
    assert re.search(rf"\b{meant}\b", str(refused.value))
