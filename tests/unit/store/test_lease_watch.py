"""A lease expires when its renewal mark has not changed for its duration under observation."""

from __future__ import annotations

from pulse.store.lease_watch import ExpiryWatch

SPAN = 30


def test_lease_expires_after_its_duration() -> None:
    """Counting begins at the first check, whatever the mark is."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    found = [watch.expired({"run": (7, SPAN)}, boot) for boot in (100, 120, 129, 130)]
    assert found == [set(), set(), set(), {"run"}]


def test_renewal_restarts_the_duration() -> None:
    """A new mark gives the lease its whole duration again."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    marks = [(7, 100), (8, 120), (8, 140), (8, 150)]
    assert [watch.expired({"run": (mark, SPAN)}, boot) for mark, boot in marks][-2:] == [
        set(),
        {"run"},
    ]


def test_next_expiry_is_counted_from_the_first_check() -> None:
    """Expired and unknown leases are left out."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    marks = {"old": (7, SPAN), "new": (8, SPAN)}
    watch.expired({"old": (7, SPAN)}, 100)
    watch.expired(marks, 110)
    told = [watch.next_expiry(marks, 110)]
    for boot in (130, 140):
        watch.expired(marks, boot)
        told.append(watch.next_expiry(marks, boot))
    assert told == [130, 140, None]


def test_time_without_checks_does_not_count() -> None:
    """After a suspend nothing has expired before it was observed for its duration in all."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN // 3)
    found = [watch.expired({"run": (7, SPAN)}, boot) for boot in (100, 110, 141, 151, 160, 161)]
    assert found == [set(), set(), set(), set(), set(), {"run"}]


def test_failed_call_restarts_the_observation() -> None:
    """Checks before an outage do not count."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    watch.expired({"run": (7, SPAN)}, 100)
    watch.forget()
    assert watch.expired({"run": (7, SPAN)}, 130) == set()


def test_observation_is_continued_by_another_observer() -> None:
    """The time between their checks counts like that between two checks of one observer."""
    first: ExpiryWatch[str] = ExpiryWatch(SPAN // 3)
    other: ExpiryWatch[str] = ExpiryWatch(SPAN // 3)
    for boot in (100, 110, 118):
        first.expired({"run": (7, SPAN), "renewed": (1, SPAN)}, boot)
    left = first.observations()
    assert left is not None
    other.adopt(*left)
    found = [
        other.expired({"run": (7, SPAN), "renewed": (2, SPAN)}, boot) for boot in (128, 130, 140)
    ]
    assert found == [set(), {"run"}, {"run"}]


def test_observer_that_has_looked_later_keeps_its_own_observation() -> None:
    """What the other one has left may be old."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    assert watch.observations() is None
    watch.expired({"run": (7, SPAN)}, 100)
    watch.adopt(99, {"run": (7, 60)})
    assert watch.expired({"run": (7, SPAN)}, 101) == set()


def expiry_of_new_mark(*, age: int, looked_at: tuple[int, ...] = (100,)) -> int | None:
    """Return when a lease of 30 expires that is first seen at 110, with an age from the storage."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN // 3)
    for boot in looked_at:
        watch.expired({}, boot)
    marks = {"run": (7, SPAN)}
    watch.expired(marks, 110, {"run": age})
    return watch.next_expiry(marks, 110)


def test_age_of_a_new_mark_counts_as_observed() -> None:
    """The lease was renewed after the last check, at which the mark was another one."""
    assert [expiry_of_new_mark(age=age) for age in (0, 4, 10)] == [140, 136, 130]


def test_age_before_the_last_check_does_not_count() -> None:
    """The storage's clock was set since the renewal."""
    assert [expiry_of_new_mark(age=age) for age in (-3_600, 11, 3_600)] == [140, 140, 140]


def test_age_at_the_first_check_or_after_a_gap_does_not_count() -> None:
    """The holder may have been kept from renewing as well."""
    assert [expiry_of_new_mark(age=4, looked_at=at) for at in ((), (99,))] == [140, 140]


def test_age_after_a_failed_call_does_not_count() -> None:
    """The holder may have been kept from renewing as well."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    watch.expired({}, 100)
    watch.forget()
    watch.expired({"run": (7, SPAN)}, 110, {"run": 4})
    assert watch.next_expiry({"run": (7, SPAN)}, 110) == 140


def test_lease_that_disappears_is_forgotten() -> None:
    """A key that comes back is new, and memory does not grow."""
    watch: ExpiryWatch[str] = ExpiryWatch(SPAN)
    watch.expired({"run": (7, SPAN)}, 100)
    watch.expired({}, 110)
    assert watch.expired({"run": (7, SPAN)}, 130) == set()
