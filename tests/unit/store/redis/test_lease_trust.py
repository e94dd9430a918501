"""When an observer may act on expired leases."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulse.store.redis.lease_trust import ClockTrust

LEASE = 30
WALL = 1_000_000


def looks(*gaps: int) -> list[bool]:
    """Return the results of checks so far apart, with a server clock at the observer's pace."""
    trust, boot, told = ClockTrust(LEASE, 0), 0, []
    for gap in gaps:
        boot += gap
        told.append(trust.observe(now=WALL + boot, boot=boot))
    return told


def test_expired_leases_are_trusted_after_a_lease_of_checks() -> None:
    """By then live holders have renewed."""
    assert looks(10, 10, 9, 1) == [False, False, False, True]


def test_gap_between_checks_restarts_the_count() -> None:
    """Examples are an outage and a suspended machine."""
    assert looks(30, 31, 20, 10) == [True, False, False, True]


def test_failed_call_restarts_the_count() -> None:
    """The calls of other processes may have failed as well."""
    trust = ClockTrust(LEASE, 0)
    trust.forget()
    told = [trust.observe(now=WALL + boot, boot=boot) for boot in (30, 59, 60)]
    assert told == [False, False, True]


def test_set_clock_of_the_server_restarts_the_count() -> None:
    """A lease that seems to have ended may have been renewed a moment ago."""
    trust = ClockTrust(LEASE, 0)
    told = [trust.observe(now=WALL + boot, boot=boot) for boot in (20, 30)]
    told += [trust.observe(now=2 * WALL + boot, boot=boot) for boot in (31, 60, 61)]
    assert told == [False, True, False, False, True]


def test_trusted_from_is_a_lease_after_the_count_began() -> None:
    """After a failed call it is a lease after the present instant."""
    trust = ClockTrust(LEASE, 0)
    told = [trust.trusted_from(20)]
    trust.forget()
    assert [*told, trust.trusted_from(20)] == [LEASE, 20 + LEASE]


@given(st.lists(st.integers(0, 2 * LEASE), max_size=30))
def test_checks_further_apart_than_a_lease_are_never_trusted(gaps: list[int]) -> None:
    """Trusted checks of the last lease always followed each other closely."""
    told = looks(*gaps)
    for index, counts in enumerate(told):
        assert not (counts and gaps[index] > LEASE)
