"""The Celery task that executes posted runs."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pytest
from celery import Celery

from pulse.carrier.base import CarrierDownError, CarrierRefusedError, Parcel
from pulse.celery import install
from pulse.celery import tasks as celery_tasks
from pulse.celery.carrier import TASK
from pulse.celery.tasks import RETRY_AFTER_S, _Host
from pulse.clock import SECOND
from pulse.errors import ConfigError
from pulse.worker.process import ParcelResult, Pool
from pulse.worker.settings import WorkerTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulse.carrier.base import CarrierError

PARCEL = Parcel(
    run="0123456789abcdef" * 2,
    attempt=1,
    task="cleanup",
    poster="host:1:nonce",
    digest="00ff",
    timeout_us=60 * SECOND,
    wait_us=7 * SECOND,
)
CONTENT = msgspec.to_builtins(PARCEL)
TARGET = WorkerTarget(word="shop.wsgi:application")
APP = Celery("shop", broker="memory://", set_as_current=False)


class Request(NamedTuple):
    """The request of a message that came from a queue."""

    delivery_info: dict[str, str]


class SentTask:
    """Stands for the bound task, whose application sends a message again."""

    def __init__(self) -> None:
        self.request = Request({"exchange": "", "routing_key": "slow"})
        self.app = self
        self.sent: list[tuple[Parcel, str, float]] = []
        self.error: CarrierError | None = None
        self.failures, self.tries = 99, 0
        self.open = 0


class SentCarrier:
    """Stands for a connection to the broker, which records what is sent."""

    def __init__(self, task: SentTask) -> None:
        self._task = task
        task.open += 1

    def send(self, parcel: Parcel, *, queue: str, delay_s: float) -> None:
        """Record the call, or fail as the broker does."""
        self._task.tries += 1
        if self._task.error is not None and self._task.tries <= self._task.failures:
            raise self._task.error
        self._task.sent.append((parcel, queue, delay_s))

    def close(self) -> None:
        """Record the call."""
        self._task.open -= 1


@pytest.fixture(autouse=True)
def carrier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tasks send over a connection that records the calls."""
    monkeypatch.setattr(celery_tasks, "CeleryCarrier", SentCarrier)
    monkeypatch.setattr(celery_tasks, "PAUSES_S", (0.0,) * len(celery_tasks.PAUSES_S))


class Process:
    """Stands for the process of a worker."""

    def __init__(self, verdict: ParcelResult) -> None:
        self.verdict = verdict
        self.parcels: list[Parcel] = []

    def perform(self, parcel: Parcel) -> ParcelResult:
        """Record the call."""
        self.parcels.append(parcel)
        return self.verdict


@pytest.fixture
def host() -> _Host:
    """Return the host of a process that has not started."""
    return _Host(APP, TARGET)


@pytest.mark.parametrize("verdict", [ParcelResult.RAN, ParcelResult.REFUSED])
def test_a_parcel_is_executed_once(host: _Host, verdict: ParcelResult) -> None:
    """Whether or not there was something to run, the message is done."""
    task, process = SentTask(), Process(verdict)
    host._process = process
    host.execute(task, CONTENT)
    assert (process.parcels, task.sent) == ([PARCEL], [])


def test_a_parcel_that_is_left_is_sent_again_to_its_queue(host: _Host) -> None:
    """Later, and not at the same moment by every worker."""
    task = SentTask()
    host._process = Process(ParcelResult.LEFT)
    for _ in range(20):
        host.execute(task, CONTENT)
    delays = [delay for _, _, delay in task.sent]
    left = msgspec.structs.replace(PARCEL, left=1)
    assert [(parcel, queue) for parcel, queue, _ in task.sent] == [(left, "slow")] * 20
    assert RETRY_AFTER_S <= min(delays) < max(delays) <= 2 * RETRY_AFTER_S
    assert task.open == 0


def test_a_parcel_is_sent_once_more_if_the_broker_does_not_answer(
    host: _Host, caplog: pytest.LogCaptureFixture
) -> None:
    """The message that came is gone: the run would wait in vain."""
    task = SentTask()
    task.error, task.failures = CarrierDownError("a moment"), len(celery_tasks.PAUSES_S)
    host._process = Process(ParcelResult.LEFT)
    host.execute(task, CONTENT)
    assert (len(task.sent), task.open, caplog.records) == (1, 0, [])


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (CarrierDownError("the broker does not answer"), 1 + len(celery_tasks.PAUSES_S)),
        (CarrierRefusedError("the broker does not answer"), 1),
    ],
)
def test_a_parcel_that_cannot_be_left_is_logged(
    host: _Host, caplog: pytest.LogCaptureFixture, error: CarrierError, tries: int
) -> None:
    """The broker is away: the run waits in the store, and is missed in the end."""
    task = SentTask()
    task.error = error
    host._process = Process(ParcelResult.LEFT)
    host.execute(task, CONTENT)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "cleanup: not left to another worker: the broker does not answer"
    )
    assert (task.open, task.tries) == (0, tries)


def test_a_parcel_is_left_for_no_longer_than_its_run_waits(host: _Host) -> None:
    """Else it would go from worker to worker for ever."""
    task = SentTask()
    host._process = Process(ParcelResult.LEFT)
    content = CONTENT
    for _ in range(20):
        host.execute(task, content)
        content = msgspec.to_builtins(task.sent[-1][0])
    assert len(task.sent) == math.ceil(7 / RETRY_AFTER_S)


def test_a_process_that_has_not_started_leaves_every_parcel(
    host: _Host, caplog: pytest.LogCaptureFixture
) -> None:
    """Another worker may be able to load the application; the log has a line for each."""
    task = SentTask()
    host.execute(task, CONTENT)
    assert len(task.sent) == 1
    assert caplog.messages == ["cleanup: left to another worker: it has not started"]


@pytest.mark.parametrize(
    "content",
    [None, [], "text", {}, CONTENT | {"attempt": "x"}, CONTENT | {"run": None}],
    ids=repr,
)
def test_content_that_is_no_parcel_is_logged_and_dropped(
    host: _Host, caplog: pytest.LogCaptureFixture, content: object
) -> None:
    """Anybody who may write to the broker can send it; it is not sent again."""
    caplog.set_level(logging.INFO, "pulse")
    task, process = SentTask(), Process(ParcelResult.RAN)
    host._process = process
    host.execute(task, content)
    assert (process.parcels, task.sent) == ([], [])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("a message for pulse.run names no run: ")


@pytest.fixture
def app() -> Iterator[Celery]:
    """Return the Celery application of a site, with settings for its own tasks."""
    app = Celery("shop", broker="memory://", set_as_current=False)
    app.conf.update(task_acks_late=True, task_ignore_result=False, task_serializer="pickle")
    yield app
    app.close()


def test_the_task_has_its_own_settings_in_an_application_of_a_site(app: Celery) -> None:
    """A message is acknowledged before the run: the store decides who takes it."""
    assert install(app, "config:/srv/p.ini#admin", name="shop") is app
    task = app.tasks[TASK]
    assert (task.acks_late, task.ignore_result, task.max_retries) == (False, True, 0)
    assert task.serializer == "json"


def test_a_celery_application_serves_one_application(app: Celery) -> None:
    """`pulse worker` installs once more what the site has installed."""
    install(app, "config:/srv/p.ini#admin", name="shop")
    assert install(app, "config:/srv/p.ini#admin", name="shop") is app
    with pytest.raises(ConfigError) as caught:
        install(app, "config:/srv/other.ini")
    assert str(caught.value) == (
        "install: expected the application that its Celery application serves,"
        " config:/srv/p.ini#admin with the name shop, got config:/srv/other.ini#main"
    )


def test_the_task_belongs_to_one_application_of_celery_alone(app: Celery) -> None:
    """By default Celery adds each task to all applications of the process."""
    install(app, "config:/srv/p.ini")
    with Celery("other", broker="memory://", set_as_current=False) as other:
        other.finalize()
        assert TASK in app.tasks
        assert TASK not in other.tasks
        assert install(other, "config:/srv/other.ini") is other


@pytest.mark.parametrize(
    ("module", "pool"),
    [
        ("celery.concurrency.prefork", Pool.PREFORK),
        ("celery.concurrency.thread", Pool.THREADS),
        ("celery.concurrency.solo", Pool.THREADS),
        ("celery.concurrency.gevent", Pool.GEVENT),
    ],
)
def test_each_pool_of_celery_has_its_own_way_to_execute_runs(
    host: _Host, monkeypatch: pytest.MonkeyPatch, module: str, pool: Pool
) -> None:
    """In the main process of the worker, or in its children."""
    begun: list[tuple[Pool, int]] = []
    monkeypatch.setattr(host, "_start", lambda pool: begun.append((pool, host._slots)))

    class Sender:
        app = APP
        pool_cls = type("TaskPool", (), {"__module__": module})
        concurrency = 3

    host.start_main(sender=Sender)
    in_main = list(begun)
    host.start_child()
    expected = [(pool, 1 if pool is Pool.PREFORK else 3)]
    assert begun == expected
    assert in_main == ([] if pool is Pool.PREFORK else expected)


def test_a_worker_of_another_celery_application_starts_nothing(
    host: _Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signals of Celery are those of all applications of the process."""
    monkeypatch.setattr(host, "_start", lambda _: pytest.fail("it has started"))

    class Sender:
        app = Celery("other", broker="memory://", set_as_current=False)
        pool_cls = type("TaskPool", (), {"__module__": "celery.concurrency.prefork"})
        concurrency = 3

    host.start_main(sender=Sender)
    host.start_child()


def test_a_pool_that_pulse_does_not_know_executes_nothing(
    host: _Host, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as that of eventlet, where the thread that uses the store would be a green one."""
    monkeypatch.setattr(host, "_start", lambda _: pytest.fail("it has started"))

    class Sender:
        app = APP
        pool_cls = type("TaskPool", (), {"__module__": "celery.concurrency.eventlet"})
        concurrency = 3

    host.start_main(sender=Sender)
    host.start_child()
    assert "expected the pool prefork, gevent, threads or solo, got eventlet" in caplog.text
