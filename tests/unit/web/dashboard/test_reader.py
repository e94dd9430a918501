"""The store is asked once a second, however many browsers look; in an outage the last answer is."""

from __future__ import annotations

from threading import Barrier, Event, Thread

import pytest

from pulse.errors import StoreUnavailableError
from pulse.testing.clock import FakeClock
from pulse.web.dashboard.reader import FRESH, StoreReader


class Store:
    """Counts what is asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_away = False

    def ask(self) -> int:
        """Answer with the number of the question."""
        self.asked += 1
        if self.is_away:
            raise StoreUnavailableError("connection refused")
        return self.asked


@pytest.fixture
def store() -> Store:
    """Return a store."""
    return Store()


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


def test_answer_is_used_again_for_a_second(store: Store, clock: FakeClock) -> None:
    """Then the store is asked again."""
    reader = StoreReader(clock)
    assert [reader.read("a", store.ask).value for _ in range(50)] == [1] * 50
    clock.forward(0.9)
    assert reader.read("a", store.ask) == (1, FRESH * 9 // 10, False)
    clock.forward(0.1)
    assert reader.read("a", store.ask) == (2, 0, False)


def test_questions_are_apart(store: Store, clock: FakeClock) -> None:
    """Each has an answer of its own."""
    reader = StoreReader(clock)
    assert [reader.read(key, store.ask).value for key in ("a", "b", "a")] == [1, 2, 1]


def test_change_is_seen_at_once(store: Store, clock: FakeClock) -> None:
    """By the process in which it was made."""
    reader = StoreReader(clock)
    reader.read("a", store.ask)
    reader.forget()
    assert reader.read("a", store.ask).value == 2


def test_outage_shows_the_last_answer_and_asks_once_a_second(
    store: Store, clock: FakeClock
) -> None:
    """With its age."""
    reader = StoreReader(clock)
    reader.read("a", store.ask)
    store.is_away = True
    clock.forward(5)
    assert [reader.read("a", store.ask) for _ in range(9)] == [(1, 5 * FRESH, True)] * 9
    assert store.asked == 2
    clock.forward(1)
    store.is_away = False
    assert reader.read("a", store.ask) == (3, 0, False)


def test_question_that_was_never_answered_is_an_error(store: Store, clock: FakeClock) -> None:
    """Once a second, not for each browser."""
    reader = StoreReader(clock)
    store.is_away = True
    for _ in range(5):
        with pytest.raises(StoreUnavailableError, match="refused"):
            reader.read("a", store.ask)
    assert store.asked == 1


def test_no_thread_waits_for_the_store_where_there_is_a_recent_answer(clock: FakeClock) -> None:
    """A slow store holds one thread of the server, not all of them."""
    reader, asking, go = StoreReader(clock), Event(), Event()
    reader.read("a", lambda: 1)
    clock.forward(1.5)

    def slow() -> int:
        asking.set()
        assert go.wait(30)
        return 2

    thread = Thread(target=lambda: reader.read("a", slow))
    thread.start()
    assert asking.wait(30)
    assert reader.read("a", slow) == (1, FRESH * 3 // 2, False)
    go.set()
    thread.join(30)
    assert reader.read("a", slow).value == 2


def test_old_answer_is_never_shown_as_a_fresh_one(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that hangs is an outage: threads wait for a while, and then show how old it is."""
    monkeypatch.setattr("pulse.web.dashboard.reader._PATIENCE_S", 0.01)
    reader, asking, go = StoreReader(clock), Event(), Event()
    reader.read("a", lambda: 1)
    clock.forward(3_600)

    def hangs() -> int:
        asking.set()
        assert go.wait(30)
        raise StoreUnavailableError("timeout")

    thread = Thread(target=lambda: reader.read("a", hangs))
    thread.start()
    assert asking.wait(30)
    assert reader.read("a", hangs) == (1, 3_600 * FRESH, True)
    go.set()
    thread.join(30)


def test_threads_share_the_error_of_the_one_that_asks(clock: FakeClock) -> None:
    """Also after a change: else they would ask one after another, each as long as a timeout."""
    reader, together, asked = StoreReader(clock), Barrier(6), list[int]()
    reader.read("a", lambda: 1)
    reader.forget()
    clock.forward(5)

    def fail() -> int:
        asked.append(1)
        raise StoreUnavailableError("connection refused")

    def read() -> None:
        together.wait(30)
        assert reader.read("a", fail).is_stale

    threads = [Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(asked) == 1


def test_questions_without_an_answer_are_forgotten_first(clock: FakeClock) -> None:
    """Those of an outage do not drive out what it shows."""
    reader, store = StoreReader(clock, kept=10), Store()
    reader.read("good", store.ask)
    store.is_away = True
    clock.forward(5)
    for number in range(100):
        with pytest.raises(StoreUnavailableError):
            reader.read(number, store.ask)
    assert reader.read("good", store.ask).value == 1


def test_threads_that_come_first_together_ask_once(store: Store, clock: FakeClock) -> None:
    """The others get the answer of the one that asks."""
    reader, together = StoreReader(clock), Barrier(8)
    found: list[int] = []

    def read() -> None:
        together.wait(30)
        found.append(reader.read("a", store.ask).value)

    threads = [Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [1] * 8


def test_answers_that_are_kept_are_bounded(clock: FakeClock) -> None:
    """Somebody who asks for ever other pages fills no memory."""
    reader, store = StoreReader(clock), Store()
    for number in range(1_000):
        reader.read(number, store.ask)
    assert reader.read(999, store.ask).value == 1_000
    assert reader.read(0, store.ask).value == 1_001
