"""When the leases of claimed runs and the waits of posted runs are over, to one observer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.core.run import QUEUE_HOLDER, Run
from pulse.store.base import Member
from pulse.store.shared.backend import Fleet, Lease, MemberRow, Orphans, Session
from pulse.store.shared.members import FleetWatch
from pulse.store.shared.rows import Caller

if TYPE_CHECKING:
    from collections.abc import Sequence

LEASE = 30
GAP = 10
"""How far apart the checks of a test are, at most; further apart they would not count."""
ME = Member(
    holder="a:1:x", host="a", machine="", pid=1, pid_started=0, mode="inline", digest="",
    lease_us=LEASE,
)  # fmt: skip
CALLER = Caller(ME, "", {}, lambda _name, _json: None, frozenset(), "", 10)  # type: ignore[arg-type, return-value] # no row is read
CLAIMED, POSTED = "1" * 32, "2" * 32


class Runs:
    """A session that has the runs of the leases, and no orphans."""

    def read_runs(self, ids: Sequence[str]) -> dict[str, Run]:
        """Return the runs of these ids."""
        holders = {CLAIMED: "a:2:x", POSTED: QUEUE_HOLDER}
        return {one: Run(id=one, task="t", fire_time=0, holder=holders[one]) for one in ids}

    def read_orphans(self, _holders: Sequence[str]) -> Orphans:
        """Return nothing: no process is gone."""
        return Orphans((), ())


class Observer:
    """Checks the leases of a storage whose clock is *offset* ahead of the boot clock.

    Args:
        leases: ends on the storage's clock, and lengths, by run; a length of None is not known.
        boot: the boot clock now.
        knows_ends: whether the storage returns the ends of all leases, as Redis does.

    """

    def __init__(
        self, leases: dict[str, tuple[int, int | None]], *, boot: int = 100, knows_ends: bool = True
    ) -> None:
        self.leases = leases
        self.boot = boot
        self.offset = 0
        self.next_expiry: int | None = None
        self._knows_ends = knows_ends
        self._watch = FleetWatch(LEASE)

    def check(self) -> set[str]:
        """Return the runs that are lost now."""
        leases = [self._lease(run, *one) for run, one in self.leases.items()]
        fleet = Fleet([MemberRow(ME, "", self.boot, 0)], leases, "", {}, {})
        session: Session = Runs()  # type: ignore[assignment] # what is called
        found = self._watch.check(session, fleet, CALLER, boot=self.boot)
        self.next_expiry = found.next_expiry
        return {one.run.id for one in found.lost}

    def lost_at(self, run: str, *, until: int) -> int | None:
        """Return the boot clock at which a run is lost, checked each second; None for not yet."""
        while self.boot <= until:
            if run in self.check():
                return self.boot
            self.boot += 1
        return None

    def forget(self) -> None:
        """Start the observation again."""
        self._watch.forget()

    def _lease(self, run: str, end: int, length: int | None) -> Lease:
        ends_in = end - self.boot - self.offset
        if run == POSTED:
            return Lease(run, end, ends_in, length, is_posted=True)
        return Lease(run, end, ends_in if self._knows_ends else None, length)


WAITS = pytest.mark.parametrize("wait", [7, LEASE, 300], ids=["shorter", "as long", "longer"])


@WAITS
def test_wait_ends_on_the_clock_of_the_storage(wait: int) -> None:
    """To an observer that has seen the run from the beginning, whatever the length of a lease."""
    observer = Observer({POSTED: (100 + wait, wait)})
    assert observer.lost_at(POSTED, until=1_000) == 100 + wait


@WAITS
def test_wait_that_is_nearly_over_is_watched_for_a_lease(wait: int) -> None:
    """An observer that has just begun ends no run that it has not watched."""
    observer = Observer({POSTED: (101, wait)})
    assert observer.lost_at(POSTED, until=1_000) == 100 + min(wait, LEASE)


@WAITS
def test_wait_ends_after_its_length_while_the_clock_is_behind(wait: int) -> None:
    """The storage's clock was set back, so that it does not show the end."""
    observer = Observer({POSTED: (100 + wait, wait)})
    observer.offset = -5_000
    assert observer.lost_at(POSTED, until=1_000) == 100 + wait


@WAITS
def test_wait_is_watched_for_a_lease_after_the_clock_was_set_ahead(wait: int) -> None:
    """The storage's clock says that the wait has been over for long."""
    observer = Observer({POSTED: (100 + wait, wait)})
    observer.offset = 5_000
    assert observer.lost_at(POSTED, until=1_000) == 100 + min(wait, LEASE)


def test_wait_is_watched_again_after_a_failed_call() -> None:
    """Workers have a lease to take what waits, as holders have one to renew."""
    observer = Observer({POSTED: (150, 50)})
    assert observer.lost_at(POSTED, until=149) is None
    observer.forget()
    assert observer.lost_at(POSTED, until=1_000) == 150 + LEASE


@pytest.mark.parametrize(("end", "length"), [(130, LEASE), (5_000, LEASE), (130, None)])
def test_wait_changes_no_lease_of_a_claimed_run(end: int, length: int | None) -> None:
    """Such as one that ends late on the storage's clock, which was set back."""
    observer = Observer({CLAIMED: (end, length), POSTED: (400, 300)})
    assert observer.lost_at(CLAIMED, until=1_000) == 130


def test_leases_without_known_ends_are_watched_for_their_lengths() -> None:
    """As in SQL, beside a posted run."""
    observer = Observer({CLAIMED: (0, LEASE), POSTED: (400, 300)}, knows_ends=False)
    assert observer.lost_at(CLAIMED, until=1_000) == 130


def test_next_expiry_is_the_end_of_the_wait_that_ends_first() -> None:
    """On the storage's clock, and later that of the watch."""
    observer = Observer({POSTED: (130, 300)})
    found = [(observer.check(), observer.next_expiry)]
    for boot in (110, 120, 125):
        observer.boot = boot
        found.append((observer.check(), observer.next_expiry))
    assert found == [(set(), 130)] * 4
    observer.boot = 130
    assert (observer.check(), observer.next_expiry) == ({POSTED}, None)


def test_next_expiry_of_a_wait_that_is_over_is_that_of_the_watch() -> None:
    """The observer has not watched it for a lease."""
    observer = Observer({POSTED: (90, 300)})
    assert (observer.check(), observer.next_expiry) == (set(), 100 + LEASE)


def test_next_expiry_may_be_that_of_a_claimed_run() -> None:
    """The wait of the posted one ends later."""
    observer = Observer({CLAIMED: (130, None), POSTED: (400, 300)})
    observer.check()
    assert observer.next_expiry == 130
