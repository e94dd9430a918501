"""The command by which `pulse worker` starts Celery."""

from __future__ import annotations

import pytest

from pulse.cli.worker import celery_command, pool_of, queue_warnings
from pulse.worker.settings import WorkerSettings

QUIET = ["--without-gossip", "--without-heartbeat"]


def options_of(*passed_on: str, broker: str = "amqp://mq//") -> list[str]:
    """Return the options of the worker, without its name."""
    command = celery_command(
        WorkerSettings(broker=broker, queues=("pulse", "slow")), ["-n", "jobs@%h", *passed_on]
    )
    assert command[-len(passed_on) - 2 :] == ["-n", "jobs@%h", *passed_on]
    return command[command.index("worker") + 1 : len(command) - len(passed_on) - 2]


def test_worker_reads_all_queues_of_the_configuration() -> None:
    """Unless an option names some."""
    assert options_of() == ["-Q", "pulse,slow"]
    assert options_of("-Q", "slow") == options_of("--queues=slow") == options_of("-Qslow") == []


def test_worker_has_a_name_of_its_own() -> None:
    """Two workers of a host with the same name would exclude each other."""
    command = celery_command(WorkerSettings(broker="redis://mq", queues=("pulse",)), [])
    assert command[-2] == "-n"
    assert command[-1].startswith("pulse-")


@pytest.mark.parametrize("pool", [["-P", "gevent"], ["-Pgevent"], ["--pool=gevent"]])
@pytest.mark.parametrize("broker", ["amqp://mq//", "amqps://mq//", "pyamqp://mq//"])
def test_worker_with_greenlets_has_no_connection_for_events_on_rabbitmq(
    pool: list[str], broker: str
) -> None:
    """Celery would wait for 0.1 s on it before each message."""
    assert options_of("-Q", "pulse", *pool, broker=broker) == QUIET


@pytest.mark.parametrize(
    ("options", "broker"),
    [
        pytest.param(["-P", "gevent", "-E"], "amqp://mq//", id="events are wanted"),
        pytest.param(["-P", "gevent", "--task-events"], "amqp://mq//", id="spelled out"),
        pytest.param(["-P", "gevent"], "redis://mq", id="Redis"),
        pytest.param(["-P", "gevent"], "shop.celery:app", id="an application of the site"),
        pytest.param(["-P", "threads", "--statedb", "gevent"], "amqp://mq//", id="threads"),
        pytest.param([], "amqp://mq//", id="prefork"),
    ],
)
def test_other_workers_keep_their_connection_for_events(options: list[str], broker: str) -> None:
    """Monitors then list them as online."""
    assert options_of("-Q", "pulse", *options, broker=broker) == []


def test_options_that_were_passed_are_not_repeated() -> None:
    """Each option stands once."""
    assert options_of("-Q", "pulse", "-P", "gevent", QUIET[0]) == QUIET[1:]


@pytest.mark.parametrize(
    ("options", "pool"),
    [([], "prefork"), (["-P", "solo"], "solo"), (["-c", "2", "-P"], ""), (["-Psolo"], "solo")],
)
def test_pool_is_that_of_the_last_option(options: list[str], pool: str) -> None:
    """As Celery reads it."""
    assert pool_of(["--pool", "threads", *options] if options else []) == pool


@pytest.mark.parametrize("options", [["-Q", "slow,pulse2"], ["-Qpulse2"], ["--queues=pulse2"]])
def test_queue_that_no_task_uses_is_reported(options: list[str]) -> None:
    """A worker of a misspelled queue would wait in vain."""
    (warning,) = queue_warnings(WorkerSettings(queues=("pulse", "slow")), options)
    assert warning.startswith(
        "-Q: expected queues of the configuration (pulse, slow), got 'pulse2'"
    )


@pytest.mark.parametrize("options", [[], ["-Q", "slow"], ["--queues", "pulse, slow"], ["-Q", ""]])
def test_queues_of_the_configuration_are_not_reported(options: list[str]) -> None:
    """Also if no queue is named: then the worker reads all."""
    assert queue_warnings(WorkerSettings(queues=("pulse", "slow")), options) == []


def test_queues_of_the_celery_application_are_not_reported_beside_one_of_the_configuration() -> (
    None
):
    """Its workers execute the tasks of the site too."""
    settings = WorkerSettings(broker="shop.celery:app", queues=("pulse",))
    assert queue_warnings(settings, ["-Q", "celery,pulse"]) == []
    assert len(queue_warnings(settings, ["-Q", "celery,"])) == 1
