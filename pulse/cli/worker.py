"""`pulse worker TARGET` becomes a Celery worker, which executes posted runs."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pulse.errors import ConfigError, missing_extra, shown
from pulse.settings.converters import is_application
from pulse.worker.settings import (
    NAME_VARIABLE,
    TARGET_VARIABLE,
    WorkerTarget,
    pass_on,
    read_worker_settings,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from pulse.worker.settings import WorkerSettings

_QUEUES, _NAMES, _POOL = ("-Q", "--queues"), ("-n", "--hostname"), ("-P", "--pool")
_EVENTS = {"-E", "--task-events", "--events"}
_QUIET = ["--without-gossip", "--without-heartbeat"]


def start_worker(options: argparse.Namespace) -> NoReturn:
    """Replace this process by `celery worker`, so that signals and process lists see Celery itself.

    Raises:
        ConfigError: the application cannot be loaded, or its mode is not celery.
        MissingExtraError: Celery is not installed.

    """
    if find_spec("celery") is None:
        raise missing_extra("pulse worker", "celery", "celery")
    word = options.target
    if not is_application(word):
        path = Path(word).resolve()
        if not path.is_file():
            raise ConfigError([f"{word}: expected an ini file, or package.module:app, got no file"])
        word = str(path)
    target = WorkerTarget(word=word, section=options.app, name=options.name)
    settings = read_worker_settings(target)
    _check(settings, target, options.passed_on)
    for warning in queue_warnings(settings, options.passed_on):
        print(f"pulse: {warning}", file=sys.stderr)  # noqa: T201 - the output of the command
    pass_on(settings)
    os.environ[TARGET_VARIABLE] = word if is_application(word) else f"config:{word}#{options.app}"
    if options.name is not None:
        os.environ[NAME_VARIABLE] = options.name
    command = celery_command(settings, options.passed_on)
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606 - this interpreter, without a shell


def celery_command(settings: WorkerSettings, passed_on: Sequence[str]) -> list[str]:
    """Return the command of the worker: Celery, what *passed_on* does not set, and *passed_on*."""
    # At SIGHUP Celery starts again what it was started as, which has to be a path.
    script = Path(sys.executable).with_name("celery")
    command = [str(script)] if script.is_file() else [sys.executable, "-m", "celery"]
    command += ["-A", "pulse.celery", "worker"]
    if value_of(_QUEUES, passed_on) is None:
        command += ["-Q", ",".join(settings.queues)]
    if value_of(_NAMES, passed_on) is None:
        # Two workers of one host with Celery's default name would exclude each other on RabbitMQ.
        command += ["-n", f"pulse-{os.getpid()}@%h"]
    is_amqp = "amqp" in settings.broker.partition("://")[0]
    if is_amqp and pool_of(passed_on) == "gevent" and not set(passed_on) & _EVENTS:
        # With a connection for events, the worker waits for 0.1 s on it before each message
        # (celery.worker.loops.synloop, Celery 5.7).
        command += [option for option in _QUIET if option not in passed_on]
    return [*command, *passed_on]


def value_of(names: tuple[str, str], passed_on: Sequence[str]) -> str | None:
    """Return the value of the last option with one of *names*, short and long; None for none."""
    short, long = names
    value = None
    for word, following in zip(passed_on, [*passed_on, ""][1:], strict=True):
        if word in names:
            value = following
        elif word.startswith((short, f"{long}=")):
            value = word.removeprefix(short).removeprefix(f"{long}=")
    return value


def pool_of(passed_on: Sequence[str]) -> str:
    """Return the pool that `-P` or `--pool` names; "prefork" if no option does."""
    pool = value_of(_POOL, passed_on)
    return "prefork" if pool is None else pool


def queue_warnings(settings: WorkerSettings, passed_on: Sequence[str]) -> list[str]:
    """Return a sentence for each queue that `-Q` names and no task of the configuration uses.

    A Celery application of the site may have queues of its own beside one of the configuration.
    """
    named = [one.strip() for one in (value_of(_QUEUES, passed_on) or "").split(",")]
    named = [*dict.fromkeys(filter(None, named))]
    unused = [queue for queue in named if queue not in settings.queues]
    if is_application(settings.broker) and len(unused) < len(named):
        return []
    known = ", ".join(settings.queues)
    return [
        f"-Q: expected queues of the configuration ({known}), got {shown(queue)}, which only tasks"
        " that are added at run time may use"
        for queue in unused
    ]


def _check(settings: WorkerSettings, target: WorkerTarget, passed_on: Sequence[str]) -> None:
    """Raise what Celery would only show in a traceback: a wrong broker, or a pool without gevent.

    Raises:
        ConfigError: there is no such Celery application, or it serves another application.
        MissingExtraError: the broker or the pool needs a package that is not installed.

    """
    from pulse.carrier.base import CarrierSetup
    from pulse.celery.carrier import find_application, make_carrier
    from pulse.celery.tasks import is_installed

    make_carrier(CarrierSetup(broker=settings.broker))
    if is_application(settings.broker):
        is_installed(find_application(settings.broker), target)
    if pool_of(passed_on) == "gevent" and find_spec("gevent") is None:
        raise missing_extra("pulse worker -- -P gevent", "gevent", "gevent")
