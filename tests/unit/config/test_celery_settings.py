"""The settings of `mode = celery`."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulse import PulseMiddleware
from pulse.clock import SECOND
from pulse.config import converters
from pulse.config.loader import load
from pulse.core.task import Task
from pulse.errors import BadValueError, ConfigError, PulseError
from pulse.settings.converters import queue
from pulse.store.memory.store import MemoryStore
from pulse.testing.clock import FakeClock
from tests.support.setups import error_of

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "S3CRETPW"  # noqa: S105 - a secret of this test alone
BROKER = f"amqp://shop:{SECRET}@mq//"
CELERY = {"pulse.config.mode": "celery", "pulse.config.broker": BROKER}
TASK = Task(action="cleanup", interval=300)

EXPECTED = (
    "expected amqp:// or redis:// followed by a host, or package.module:name of a Celery"
    " application"
)

SCHEMES = st.sampled_from(["amqp", "amqps", "pyamqp", "redis", "rediss"])
HOSTS = st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True)
NAMES = st.from_regex(r"[A-Za-z_]\w{0,9}", fullmatch=True)


def problems(config: Any = None, **keywords: Any) -> tuple[str, ...]:
    """Return the problems of a configuration; none for a valid one."""
    try:
        load(config, keywords)
    except ConfigError as error:
        return error.problems
    return ()


def test_mode_celery_needs_a_broker_and_no_more() -> None:
    """The other settings have defaults."""
    settings = load(CELERY, {})
    assert (settings.mode, settings.broker) == ("celery", BROKER)
    assert (settings.queue, settings.wait_us) == ("pulse", 300 * SECOND)


def test_all_settings_may_be_keywords() -> None:
    """They equal those of the keys of an ini file."""
    keys = {
        "pulse.config.queue": "jobs",
        "pulse.config.wait": "10m",
        "pulse.task.t.action": "cleanup",
        "pulse.task.t.interval": "300",
        "pulse.task.t.queue": " slow ",
    }
    task = Task(action="cleanup", interval=300, queue="slow")
    keywords = {"mode": "celery", "broker": BROKER, "queue": "jobs", "wait": 600}
    assert load(CELERY | keys, {}) == load(None, keywords | {"tasks": {"t": task}})


def test_a_broker_may_be_a_celery_application() -> None:
    """The site has one already, with its own settings of the connection."""
    assert load(None, {"mode": "celery", "broker": "shop.celery:app"}).broker == "shop.celery:app"


@pytest.mark.parametrize(
    ("config", "keywords", "key"),
    [
        ({"pulse.config.mode": "celery"}, {}, "pulse.config.broker"),
        (None, {"mode": "celery"}, "broker"),
    ],
    ids=["ini", "keyword"],
)
def test_a_missing_broker_is_reported_where_the_mode_is(
    config: Any, keywords: dict[str, Any], key: str
) -> None:
    """The sentence says what is expected and what came."""
    (problem,) = problems(config, **keywords)
    assert problem == f"{key}: {EXPECTED}, under mode = celery; got nothing"


def test_a_broker_that_is_wrong_is_not_missing_too() -> None:
    """One mistake has one sentence."""
    (problem,) = problems(CELERY | {"pulse.config.broker": "http://mq"})
    assert problem == f"pulse.config.broker: {EXPECTED}, got 'http://mq'"


@pytest.mark.parametrize("mode", ["threading", "gevent", "auto", "inline"])
def test_other_modes_ignore_the_broker(mode: str) -> None:
    """A site may change its mode without changing everything."""
    assert load(None, {"mode": mode, "broker": BROKER, "store": "memory:"}).broker == BROKER
    assert problems(None, mode=mode) == ()


@pytest.mark.parametrize(
    ("config", "keywords", "key"),
    [
        (CELERY | {"pulse.config.store": "memory:"}, {}, "pulse.config.store"),
        (None, {"mode": "celery", "broker": BROKER, "store": "memory:"}, "store"),
        (
            {"pulse.config.store": "memory:"},
            {"mode": "celery", "broker": BROKER},
            "pulse.config.store",
        ),
        (CELERY, {"store": "memory:"}, "store"),
    ],
    ids=["ini", "keyword", "store in ini", "store as keyword"],
)
def test_a_store_in_memory_is_rejected(config: Any, keywords: dict[str, Any], key: str) -> None:
    """No worker could reach it; the sentence names the key that was written."""
    (problem,) = problems(config, **keywords)
    expected = "expected a store that workers reach under mode = celery"
    assert problem == f"{key}: {expected}, got memory:"


@pytest.mark.parametrize("scope", ["host", "process"])
def test_a_task_of_one_host_or_process_is_rejected(scope: str) -> None:
    """Any worker of the queue executes the task; the sentence names the task."""
    keys = {"pulse.task.t.action": "a", "pulse.task.t.interval": "5", "pulse.task.t.scope": scope}
    task = Task(action="a", interval=5, scope=scope)
    expected = (
        "expected fleet under mode = celery, since any worker of the queue executes the task,"
        f" got {scope}"
    )
    assert problems(CELERY | keys) == (f"pulse.task.t.scope: {expected}",)
    assert problems(CELERY, tasks={"t": task}) == (f"tasks['t'].scope: {expected}",)
    assert problems(None, mode="threading", tasks={"t": task}) == ()


def test_every_problem_is_reported_at_once() -> None:
    """A person corrects them together."""
    task = Task(action="a", interval=5, scope="host")
    found = problems(None, mode="celery", store="memory:", queue="a b", wait=0.5, tasks={"t": task})
    keys = [problem.partition(":")[0] for problem in found]
    assert sorted(keys) == ["broker", "queue", "store", "tasks['t'].scope", "wait"]


@pytest.mark.parametrize(
    "make",
    [
        lambda: repr(load(CELERY, {})),
        lambda: str(error_of(lambda: load(CELERY | {"pulse.config.broker": BROKER + " x"}, {}))),
        lambda: str(error_of(lambda: load(CELERY | {"pulse.config.broker": f'"{BROKER}"'}, {}))),
        lambda: str(error_of(lambda: load({"pulse.config.broker": f"x{BROKER}"}, {"mode": "x"}))),
        lambda: str(error_of(lambda: load(None, {"broker": BROKER.encode()}))),
        lambda: str(error_of(lambda: load(None, {"broker": [BROKER]}))),
    ],
    ids=["repr", "blank", "quotes", "another problem", "bytes", "list"],
)
def test_no_password_of_a_broker_is_shown(make: Callable[[], str]) -> None:
    """Neither in the representation of the settings nor in an error."""
    text = make()
    assert "broker" in text
    assert SECRET not in text


def test_a_store_in_memory_is_found_at_the_start_too() -> None:
    """The default store of a process may be one."""
    app = PulseMiddleware(lambda *_: [], mode="celery", broker=BROKER)
    with pytest.raises(ConfigError) as caught:
        app.runtime._check_reach(MemoryStore(FakeClock()), "celery")
    expected = "expected a store that workers reach under mode = celery"
    assert caught.value.problems == (f"pulse.config.store: {expected}, got memory:",)


# The converters ---------------------------------------------------------------------------


@given(scheme=SCHEMES, host=HOSTS, port=st.integers(1, 65_535) | st.none(), path=NAMES)
def test_broker_returns_a_url_unchanged(
    scheme: str, host: str, port: int | None, path: str
) -> None:
    """Without the blanks around it."""
    url = f"{scheme}://{host}{'' if port is None else f':{port}'}/{path}"
    assert converters.broker(f" {url} ") == url


@given(module=st.lists(NAMES, min_size=1, max_size=3), name=NAMES)
def test_broker_returns_the_name_of_an_application_unchanged(module: list[str], name: str) -> None:
    """In the form of an import."""
    word = f"{'.'.join(module)}:{name}"
    assert converters.broker(word) == word


@given(st.text() | st.none() | st.integers() | st.binary())
def test_broker_accepts_no_other_value(value: object) -> None:
    """Whatever is accepted has a host, or is the name of an application."""
    with suppress(BadValueError):
        text = converters.broker(value)
        assert text == str(value).strip()
        assert ":" in text
        assert text.isprintable()


@given(
    scheme=SCHEMES | st.sampled_from(["http", "amqp+x", "AMQP", ""]),
    user=st.text("abc%2/", max_size=4),
    rest=st.text("host:/?#[]5@ =&", max_size=12),
)
def test_broker_shows_no_password_in_an_error(scheme: str, user: str, rest: str) -> None:
    """However the URL is malformed."""
    text = ""
    try:
        converters.broker(f"{scheme}://{user}:{SECRET}@{rest}")
    except BadValueError as error:
        text = str(error)
    assert SECRET not in text


@given(st.from_regex(r"[A-Za-z0-9._-]{1,200}", fullmatch=True).filter(lambda x: x[:4] != "amq."))
def test_queue_returns_a_name_unchanged(name: str) -> None:
    """Without the blanks around it."""
    assert queue(f" {name}\t") == name


@given(st.text() | st.none() | st.integers())
def test_queue_accepts_no_other_value(value: object) -> None:
    """A queue is passed to `celery worker -Q`, which separates names by commas."""
    with suppress(BadValueError):
        name = queue(value)
        assert name == str(value).strip()
        assert name.isascii()
        assert not {",", " ", "/", ":"} & set(name)


@given(st.floats(1, 100_000))
def test_wait_returns_a_span_of_at_least_a_second(seconds: float) -> None:
    """In microseconds."""
    assert converters.wait(seconds) == pytest.approx(seconds * SECOND, abs=1)


@given(st.floats(0, 0.999) | st.floats(max_value=0) | st.text("x,;", min_size=1))
def test_wait_accepts_no_shorter_span(value: object) -> None:
    """No worker would take a run in that time."""
    with pytest.raises(PulseError, match="expected"):
        converters.wait(value)
