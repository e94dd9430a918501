"""Back-off and probes after failed store calls."""

from pulse.store.backoff import (
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
    """Each delay is twice the one before, and none is longer than the cap."""
    back_off = BackOff(never)
    waits = [back_off.wait() for _ in range(6)]
    assert waits == [50_000, 100_000, 200_000, 400_000, LONGEST_BACK_OFF, LONGEST_BACK_OFF]


def test_back_off_is_shortened_at_random_by_a_quarter_at_most() -> None:
    """Processes that have lost the same store do not all call it again at the same instant."""
    assert BackOff(lambda: 1.0).wait() == FIRST_BACK_OFF * 3 // 4


def test_back_off_starts_with_the_shortest_delay_after_a_reset() -> None:
    """A second outage is treated like the first."""
    back_off = BackOff(never)
    back_off.wait()
    back_off.wait()
    back_off.reset()
    assert back_off.wait() == FIRST_BACK_OFF


def test_delay_is_reduced_by_the_duration_of_the_failed_call() -> None:
    """A delay counts from the start of the failed call, and is never left out."""
    waits = [BackOff(never).wait(took) for took in (10_000, FIRST_BACK_OFF, 5_000_000)]
    assert waits == [40_000, SHORTEST_BACK_OFF, SHORTEST_BACK_OFF]


def test_probe_ends_before_the_next_call_is_due() -> None:
    """Calls are as frequent without an answer as with refused connections."""
    assert PROBE_TIMEOUT < LONGEST_BACK_OFF * 3 / 4 + SHORTEST_BACK_OFF


def test_chance_is_between_0_and_1() -> None:
    """It is a factor."""
    assert all(0 <= chance() < 1 for _ in range(100))


def patient_tries(probe: ReconnectProbe, tries: int) -> list[int]:
    """Return after how many failed calls one makes no probe, of so many that fail."""
    found = []
    for failed in range(tries):
        if not probe.is_due():
            found.append(failed)
        probe.failed()
    return found


def test_calls_after_a_failure_are_preceded_by_a_probe() -> None:
    """The exceptions have the whole time limit, each after twice as many failures."""
    assert patient_tries(ReconnectProbe(never), 150) == [0, 16, 32, 64, 128]


def test_random_number_delays_the_call_without_a_probe() -> None:
    """It is delayed to twice as many failures at most, so that processes differ."""
    assert patient_tries(ReconnectProbe(lambda: 1.0), 150) == [0, 32, 64, 128]


def test_answer_ends_the_probes() -> None:
    """The next call has its whole time limit."""
    probe = ReconnectProbe(never)
    probe.failed()
    probe.answered()
    assert not probe.is_due()
