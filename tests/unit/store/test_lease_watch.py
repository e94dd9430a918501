"""A mark that stands still while one looks is over after its span."""

from __future__ import annotations

from pulse.store.lease_watch import ExpiryWatch

SPAN = 30


def test_a_mark_is_over_after_its_span() -> None:
    """Counting begins at the first look, not at what the mark says."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    found = [watch.expired({"run": (7, SPAN)}, boot) for boot in (100, 120, 129, 130)]
    assert found == [set(), set(), set(), {"run"}]


def test_a_mark_that_moves_is_counted_anew() -> None:
    """A renewal gives the whole span again."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    marks = [(7, 100), (8, 120), (8, 140), (8, 150)]
    assert [watch.expired({"run": (mark, SPAN)}, boot) for mark, boot in marks][-2:] == [
        set(),
        {"run"},
    ]


def test_the_next_end_is_told() -> None:
    """It counts from the first look at a mark; what is over, or not there, has none."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    marks = {"old": (7, SPAN), "new": (8, SPAN)}
    watch.expired({"old": (7, SPAN)}, 100)
    watch.expired(marks, 110)
    told = [watch.next_expiry(marks, 110)]
    for boot in (130, 140):
        watch.expired(marks, boot)
        told.append(watch.next_expiry(marks, boot))
    assert told == [130, 140, None]


def test_what_nobody_saw_does_not_count() -> None:
    """After a suspend nothing is over before it was watched for a span in all."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN // 3)
    found = [watch.expired({"run": (7, SPAN)}, boot) for boot in (100, 110, 141, 151, 160, 161)]
    assert found == [set(), set(), set(), set(), set(), {"run"}]


def test_a_failure_counts_anew() -> None:
    """What was seen before an outage says nothing."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    watch.expired({"run": (7, SPAN)}, 100)
    watch.forget()
    assert watch.expired({"run": (7, SPAN)}, 130) == set()


def test_what_is_gone_is_forgotten() -> None:
    """A key that comes back is new, and memory does not grow."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    watch.expired({"run": (7, SPAN)}, 100)
    watch.expired({}, 110)
    assert watch.expired({"run": (7, SPAN)}, 130) == set()
