"""How long the loop waits after failures."""

from pulse.backoff import (
    FIRST_BACK_OFF,
    LONGEST_BACK_OFF,
    PROBE_TIMEOUT,
    SHORTEST_BACK_OFF,
    BackOff,
    ReconnectProbe,
    chance,
)


def never() -> float:
    """Return the least chance, which takes nothing off a wait."""
    return 0.0


def test_back_off_doubles_up_to_its_cap() -> None:
    """Each wait is twice the one before, and none is longer than the cap."""
    back_off = BackOff(never)
    waits = [back_off.wait() for _ in range(6)]
    assert waits == [50_000, 100_000, 200_000, 400_000, LONGEST_BACK_OFF, LONGEST_BACK_OFF]


def test_back_off_is_shortened_by_chance_at_most_by_a_quarter() -> None:
    """Processes that lost the same store do not all come back at the same instant."""
    assert BackOff(lambda: 1.0).wait() == FIRST_BACK_OFF * 3 // 4


def test_back_off_begins_anew_after_a_reset() -> None:
    """A store that came back is asked again as quickly as at first."""
    back_off = BackOff(never)
    back_off.wait()
    back_off.wait()
    back_off.reset()
    assert back_off.wait() == FIRST_BACK_OFF


def test_a_try_that_took_its_time_is_followed_sooner() -> None:
    """Waits are counted from the beginning of the try before, and are never left out."""
    waits = [BackOff(never).wait(took) for took in (10_000, FIRST_BACK_OFF, 5_000_000)]
    assert waits == [40_000, SHORTEST_BACK_OFF, SHORTEST_BACK_OFF]


def test_a_knock_is_over_before_the_next_try_is_due() -> None:
    """Tries begin as often where nothing is answered as where all is refused."""
    assert PROBE_TIMEOUT < LONGEST_BACK_OFF * 3 / 4 + SHORTEST_BACK_OFF


def test_chance_is_between_nothing_and_all() -> None:
    """It is a figure to multiply with."""
    assert all(0 <= chance() < 1 for _ in range(100))


def patient_tries(probe: ReconnectProbe, tries: int) -> list[int]:
    """Return after how many failed calls one does without a knock, of so many that fail."""
    found = []
    for failed in range(tries):
        if not probe.is_due():
            found.append(failed)
        probe.failed()
    return found


def test_a_call_after_a_failed_one_begins_with_a_knock() -> None:
    """All but a few: one of them is given its whole time, each time after twice as many."""
    assert patient_tries(ReconnectProbe(never), 150) == [0, 16, 32, 64, 128]


def test_processes_do_not_all_leave_their_knocks_out_together() -> None:
    """Chance puts that off, to twice as long at most."""
    assert patient_tries(ReconnectProbe(lambda: 1.0), 150) == [0, 32, 64, 128]


def test_an_answer_ends_the_knocks() -> None:
    """A server that has answered is trusted again."""
    probe = ReconnectProbe(never)
    probe.failed()
    probe.answered()
    assert not probe.is_due()
