"""How much later a process looks that has won nothing."""

from pulse.scheduler.poll_delay import LONGEST_LOSER_DELAY, Turn


def test_a_process_that_wins_looks_at_once() -> None:
    """Whoever won the last tick looks for the next one without delay."""
    turn = Turn()
    turn.after(now=0, won=True, wake_at=100)
    turn.after(now=100, won=True, wake_at=200)
    assert turn.delay() == 0


def test_a_process_that_keeps_losing_looks_later_each_time() -> None:
    """Looks that come too late to win anything double the delay, up to a quarter of a second."""
    turn = Turn()
    delays = []
    for now in range(0, 900, 100):
        turn.after(now=now, won=False, wake_at=now + 100)
        delays.append(turn.delay())
    assert delays == [0, 10_000, 20_000, 40_000, 80_000, 160_000, *[LONGEST_LOSER_DELAY] * 3]


def test_a_look_before_anything_was_due_is_no_loss() -> None:
    """A process that is woken early has lost to nobody."""
    turn = Turn()
    turn.after(now=0, won=False, wake_at=100)
    turn.after(now=50, won=False, wake_at=100)
    assert turn.delay() == 0


def test_a_win_ends_the_delay() -> None:
    """A process that takes over from a dead one is at once as quick as that was."""
    turn = Turn()
    turn.after(now=0, won=False, wake_at=100)
    turn.after(now=100, won=False, wake_at=200)
    turn.after(now=200, won=True, wake_at=300)
    assert turn.delay() == 0


def test_nothing_known_to_come_is_no_loss() -> None:
    """A process that knows of no instant of work cannot be late for it."""
    turn = Turn()
    turn.after(now=0, won=False, wake_at=None)
    turn.after(now=100, won=False, wake_at=None)
    assert turn.delay() == 0
