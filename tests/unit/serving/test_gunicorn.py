"""How long gunicorn lets a worker live, judged on a clock that is moved by hand."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pulse.serving.gunicorn import GunicornWorker, detect, detect_forked
from pulse.testing.clock import FakeClock


@dataclass
class Heart:
    """A heart that beats when it is told to, and can be closed."""

    beats: float = 1.0
    is_closed: bool = False

    def last_update(self) -> float:
        """Return the number of beats."""
        if self.is_closed:
            raise ValueError("closed")
        return self.beats


@dataclass
class Config:
    """The settings that count."""

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
    tmp: Heart = field(default_factory=Heart)
    cfg: Config = field(default_factory=Config)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that only the test moves."""
    return FakeClock()


def test_a_worker_that_was_never_asked_about_counts_half_its_timeout(clock: FakeClock) -> None:
    """Unasked, the last sign of life may be as old as a loop's longest sleep."""
    server = GunicornWorker(Worker(), clock)

    assert server.time_left_s() == 15.0


def test_without_a_timeout_only_the_graceful_one_bounds(clock: FakeClock) -> None:
    """`timeout = 0` switches the master's watch off."""
    server = GunicornWorker(Worker(cfg=Config(graceful_timeout=20, timeout=0)), clock)

    assert server.time_left_s() == 20.0


def test_time_since_the_last_beat_is_gone(clock: FakeClock) -> None:
    """The master counts from the last notification, which came after the question before it."""
    worker = Worker(cfg=Config(graceful_timeout=100, timeout=30))
    server = GunicornWorker(worker, clock)
    server.accepts_work()
    worker.tmp.beats += 1
    clock.forward(1)
    server.accepts_work()
    clock.forward(8)

    assert server.time_left_s() == 21.0


def test_time_since_it_was_told_to_stop_is_gone(clock: FakeClock) -> None:
    """The graceful timeout counts from when the worker was last seen to go on."""
    worker = Worker(cfg=Config(graceful_timeout=30, timeout=0))
    server = GunicornWorker(worker, clock)
    server.accepts_work()
    worker.alive = False
    clock.forward(1)
    server.accepts_work()
    clock.forward(9)

    assert server.time_left_s() == 20.0


def test_an_old_question_does_not_eat_the_drain(clock: FakeClock) -> None:
    """A loop that had not asked for a minute knows only that it was told within two seconds."""
    worker = Worker(cfg=Config(graceful_timeout=30, timeout=0))
    server = GunicornWorker(worker, clock)
    server.accepts_work()
    worker.alive = False
    clock.forward(60)

    assert server.time_left_s() == 28.0


def test_the_limit_is_never_negative(clock: FakeClock) -> None:
    """A worker that is overdue has no time left, not less than none."""
    server = GunicornWorker(Worker(), clock)
    server.accepts_work()
    clock.forward(300)

    assert server.time_left_s() == 0.0


def test_a_closed_heart_is_no_error(clock: FakeClock) -> None:
    """Once the worker has closed its file the last known beat counts."""
    worker = Worker(cfg=Config(graceful_timeout=100, timeout=30))
    server = GunicornWorker(worker, clock)
    server.accepts_work()
    worker.tmp.is_closed = True
    clock.forward(4)

    assert server.accepts_work()
    assert server.time_left_s() == 26.0


def test_outside_gunicorn_nothing_is_found() -> None:
    """Neither a worker nor a fork of one shows on an ordinary stack."""
    assert (detect(), detect_forked()) == (None, None)
