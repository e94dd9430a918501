"""How long gunicorn lets a worker live, measured on a clock that the test moves."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pulse.serving.gunicorn import GunicornWorker, detect, detect_forked
from pulse.testing.clock import FakeClock


@dataclass
class Heartbeat:
    """A heartbeat file that the test updates, and can close."""

    beats: float = 1.0
    is_closed: bool = False

    def last_update(self) -> float:
        """Return the number of updates."""
        if self.is_closed:
            raise ValueError("closed")
        return self.beats


@dataclass
class Config:
    """The settings that pulse reads."""

    graceful_timeout: int = 30
    timeout: int = 30
    hooks: dict[str, object] = field(default_factory=dict)

    def set(self, name: str, value: object) -> None:
        """Set a hook."""
        self.hooks[name] = value


@dataclass
class Worker:
    """A worker as pulse reads it."""

    alive: bool = True
    booted: bool = True
    pid: int = 0
    tmp: Heartbeat = field(default_factory=Heartbeat)
    cfg: Config = field(default_factory=Config)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that only the test moves."""
    return FakeClock()


def test_an_unchecked_worker_has_half_its_timeout_left(clock: FakeClock) -> None:
    """Without a check, the last heartbeat may be as old as a loop's longest sleep."""
    server = GunicornWorker(Worker(), clock)

    assert server.time_left_s() == 15.0


def test_without_a_timeout_only_the_graceful_timeout_limits(clock: FakeClock) -> None:
    """With `timeout = 0` the master does not check heartbeats."""
    server = GunicornWorker(Worker(cfg=Config(graceful_timeout=20, timeout=0)), clock)

    assert server.time_left_s() == 20.0


def test_the_time_since_the_last_heartbeat_is_subtracted(clock: FakeClock) -> None:
    """The master counts from the last heartbeat, which came after the previous check."""
    worker = Worker(cfg=Config(graceful_timeout=100, timeout=30))
    server = GunicornWorker(worker, clock)
    server.accepts_work()
    worker.tmp.beats += 1
    clock.forward(1)
    server.accepts_work()
    clock.forward(8)

    assert server.time_left_s() == 21.0


def test_the_time_since_the_order_to_stop_is_subtracted(clock: FakeClock) -> None:
    """The graceful timeout counts from the last check without the order."""
    worker = Worker(cfg=Config(graceful_timeout=30, timeout=0))
    server = GunicornWorker(worker, clock)
    server.accepts_work()
    worker.alive = False
    clock.forward(1)
    server.accepts_work()
    clock.forward(9)

    assert server.time_left_s() == 20.0


def test_an_old_check_does_not_shorten_the_drain(clock: FakeClock) -> None:
    """After a minute without checks, the order is assumed to be two seconds old at most."""
    worker = Worker(cfg=Config(graceful_timeout=30, timeout=0))
    server = GunicornWorker(worker, clock)
    server.accepts_work()
    worker.alive = False
    clock.forward(60)

    assert server.time_left_s() == 28.0


def test_the_time_left_is_never_negative(clock: FakeClock) -> None:
    """An overdue worker has no time left."""
    server = GunicornWorker(Worker(), clock)
    server.accepts_work()
    clock.forward(300)

    assert server.time_left_s() == 0.0


def test_a_closed_heartbeat_file_is_no_error(clock: FakeClock) -> None:
    """Once the worker has closed its file, the last known heartbeat counts."""
    worker = Worker(cfg=Config(graceful_timeout=100, timeout=30))
    server = GunicornWorker(worker, clock)
    server.accepts_work()
    worker.tmp.is_closed = True
    clock.forward(4)

    assert server.accepts_work()
    assert server.time_left_s() == 26.0


def test_outside_gunicorn_nothing_is_detected() -> None:
    """An ordinary call stack shows neither a worker nor a fork of one."""
    assert (detect(), detect_forked()) == (None, None)
