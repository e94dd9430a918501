"""When an observer may take the silence of others for their end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pulse.store.redis.lease_trust import ClockTrust

LEASE = 30
WALL = 1_000_000


def looks(*gaps: int) -> list[bool]:
    """Return what looks so far apart tell, by a clock that goes at the observer's pace."""
    trust, boot, told = ClockTrust(LEASE, 0), 0, []
    for gap in gaps:
        boot += gap
        told.append(trust.observe(now=WALL + boot, boot=boot))
    return told


def test_silence_counts_after_a_lease_of_looks() -> None:
    """Not before: holders that live have renewed by then."""
    assert looks(10, 10, 9, 1) == [False, False, False, True]


def test_a_gap_begins_the_count_anew() -> None:
    """As after an outage or a suspend."""
    assert looks(30, 31, 20, 10) == [True, False, False, True]


def test_a_failed_call_begins_the_count_anew() -> None:
    """Others may not have been answered either."""
    trust = ClockTrust(LEASE, 0)
    trust.forget()
    told = [trust.observe(now=WALL + boot, boot=boot) for boot in (30, 59, 60)]
    assert told == [False, False, True]


def test_a_server_whose_clock_was_set_begins_the_count_anew() -> None:
    """What it says has ended may have been renewed a moment ago."""
    trust = ClockTrust(LEASE, 0)
    told = [trust.observe(now=WALL + boot, boot=boot) for boot in (20, 30)]
    told += [trust.observe(now=2 * WALL + boot, boot=boot) for boot in (31, 60, 61)]
    assert told == [False, True, False, False, True]


def test_it_tells_from_when_silence_counts() -> None:
    """A lease after the count began, or after now where a call has failed."""
    trust = ClockTrust(LEASE, 0)
    told = [trust.trusted_from(20)]
    trust.forget()
    assert [*told, trust.trusted_from(20)] == [LEASE, 20 + LEASE]


@given(st.lists(st.integers(0, 2 * LEASE), max_size=30))
def test_nobody_is_judged_by_looks_that_were_further_apart_than_a_lease(gaps: list[int]) -> None:
    """Whenever silence counts, the looks of the last lease followed each other closely."""
    told = looks(*gaps)
    for index, counts in enumerate(told):
        assert not (counts and gaps[index] > LEASE)
