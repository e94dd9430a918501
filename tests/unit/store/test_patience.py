"""For how long no tick is skipped after an outage."""

from pulse.clock import SECOND
from pulse.store.patience import LOOK_AGAIN, PATIENCE, Patience, look_again_at


def test_it_lasts_from_the_failure_to_a_second_after_the_return() -> None:
    """So long holders have to tell what ended meanwhile."""
    patience = Patience()
    patience.answered(0)
    before = patience.lasts(PATIENCE)
    patience.failed()
    away = patience.lasts(PATIENCE)
    patience.answered(9 * SECOND)
    patience.answered(9 * SECOND + 5)
    ends = [patience.lasts(9 * SECOND + at) for at in (PATIENCE - 1, PATIENCE)]
    assert (before, away, ends) == (False, True, [True, False])


def test_who_has_joined_was_away_as_well() -> None:
    """It cannot know what the store was spared."""
    assert Patience().lasts(0)


def test_what_was_put_off_is_looked_at_soon_and_not_after_other_work() -> None:
    """The loop sleeps until then, and does not spin."""
    wakes = [look_again_at(SECOND, at) for at in (None, SECOND + 1, 9 * SECOND)]
    assert wakes == [SECOND + LOOK_AGAIN, SECOND + 1, SECOND + LOOK_AGAIN]
