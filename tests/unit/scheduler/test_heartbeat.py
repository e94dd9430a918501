"""The deadlines at which a process renews its leases and shows that it lives."""

from __future__ import annotations

import pytest

from pulse import events
from pulse.clock import SECOND
from pulse.errors import StoreUnavailableError
from pulse.scheduler.completer import Completer
from pulse.scheduler.heartbeat import HEARTBEAT_INTERVAL, NEVER, Heartbeat
from pulse.scheduler.reporter import Reporter
from pulse.store.base import HeartbeatResult
from pulse.store.process_identity import this_member
from pulse.testing.clock import FakeClock
from tests.support.claims import make_claim

LEASE = 30 * SECOND


class SpyStore:
    """Records the calls of a heartbeat, and fails on demand."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.failing: set[str] = set()
        self.next_expiry: int | None = None

    def _note(self, name: str) -> None:
        self.called.append(name)
        if name in self.failing:
            raise StoreUnavailableError(name)

    def renew(self, claims: list[object]) -> list[bool]:
        """Record the call."""
        self._note("renew")
        return [True for _ in claims]

    def heartbeat(self) -> HeartbeatResult:
        """Record the call, and return the next expiry."""
        self._note("heartbeat")
        return HeartbeatResult((), (), (), self.next_expiry)


@pytest.fixture
def store() -> SpyStore:
    """Return the store that the heartbeat calls."""
    return SpyStore()


@pytest.fixture
def heartbeat(store: SpyStore) -> Heartbeat:
    """Return the heartbeat of a process that holds one claim, not started."""
    bus = events.EventBus()
    completer = Completer(store, bus, {})
    completer.track([make_claim()])
    return Heartbeat(
        this_member("inline", "digest", LEASE),
        store,
        completer=completer,
        reporter=Reporter(bus, FakeClock()),
        bus=bus,
        interrupt=lambda _claim, _reason: None,
    )


def beat(heartbeat: Heartbeat, now: int) -> None:
    """Do what is due, as the loop does."""
    if heartbeat.begin(now):
        heartbeat.send()


def test_nothing_is_due_before_the_process_takes_part(heartbeat: Heartbeat) -> None:
    """A process that never joined the store has nothing to renew."""
    assert (heartbeat.started, heartbeat.next_at) == (False, NEVER)


def test_both_are_due_at_the_start(heartbeat: Heartbeat, store: SpyStore) -> None:
    """The first turn shows others that the process lives."""
    heartbeat.start(0)
    beat(heartbeat, 0)
    assert store.called == ["renew", "heartbeat"]


def test_heartbeats_are_more_frequent_than_renewals(heartbeat: Heartbeat, store: SpyStore) -> None:
    """Leases are renewed every third of a lease, and observed every 0.75 s."""
    heartbeat.start(0)
    now = 0
    while now < LEASE // 3:
        beat(heartbeat, now)
        now = heartbeat.next_at
    beat(heartbeat, LEASE // 3)
    beats = -(-(LEASE // 3) // HEARTBEAT_INTERVAL)
    assert store.called.count("heartbeat") == beats
    assert store.called.count("renew") == 2


def test_a_renewal_that_failed_is_due_in_the_next_turn(
    heartbeat: Heartbeat, store: SpyStore
) -> None:
    """Others may take the runs when a third of a lease has passed once more."""
    heartbeat.start(0)
    store.failing = {"renew"}
    with pytest.raises(StoreUnavailableError):
        beat(heartbeat, 0)
    store.failing = set()
    store.called.clear()
    assert heartbeat.next_at <= 1
    beat(heartbeat, 1)
    assert store.called[0] == "renew"


def test_a_heartbeat_comes_when_a_lease_expires(heartbeat: Heartbeat, store: SpyStore) -> None:
    """The store says when the next lease ends unless it is renewed."""
    store.next_expiry = SECOND // 4
    heartbeat.start(0)
    beat(heartbeat, 0)
    assert heartbeat.next_at == SECOND // 4
