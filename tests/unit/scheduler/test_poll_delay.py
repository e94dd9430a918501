"""How much later a process looks that has won nothing."""

from pulse.scheduler.poll_delay import LONGEST_LOSER_DELAY, ContentionDelay


def test_a_process_that_wins_looks_at_once() -> None:
    """Whoever won the last tick looks for the next one without delay."""
    turn = ContentionDelay()
    turn.after(now=0, won=True, next_wakeup=100)
    turn.after(now=100, won=True, next_wakeup=200)
    assert turn.delay() == 0


def test_a_process_that_keeps_losing_looks_later_each_time() -> None:
    """Looks that come too late to win anything double the delay, up to a quarter of a second."""
    turn = ContentionDelay()
    delays = []
    for now in range(0, 900, 100):
        turn.after(now=now, won=False, next_wakeup=now + 100)
        delays.append(turn.delay())
    assert delays == [0, 10_000, 20_000, 40_000, 80_000, 160_000, *[LONGEST_LOSER_DELAY] * 3]


def test_a_look_before_anything_was_due_is_no_loss() -> None:
    """A process that is woken early has lost to nobody."""
    turn = ContentionDelay()
    turn.after(now=0, won=False, next_wakeup=100)
    turn.after(now=50, won=False, next_wakeup=100)
    assert turn.delay() == 0


def test_a_win_ends_the_delay() -> None:
    """A process that takes over from a dead one is at once as quick as that was."""
    turn = ContentionDelay()
    turn.after(now=0, won=False, next_wakeup=100)
    turn.after(now=100, won=False, next_wakeup=200)
    turn.after(now=200, won=True, next_wakeup=300)
    assert turn.delay() == 0


def test_nothing_known_to_come_is_no_loss() -> None:
    """A process that knows of no instant of work cannot be late for it."""
    turn = ContentionDelay()
    turn.after(now=0, won=False, next_wakeup=None)
    turn.after(now=100, won=False, next_wakeup=None)
    assert turn.delay() == 0
