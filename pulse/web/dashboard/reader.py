"""Reads the store for pages, at most once a second for each kind of question in a process.

However many browsers look, one thread asks and the others get its answer. While the store does not
answer, pages show the last answer, with its age.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from pulse.clock import SECOND
from pulse.errors import NotServingError, StoreError, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from pulse.clock import Clock, Span

T = TypeVar("T")

FRESH: Span = SECOND
"""How long an answer is used again."""

_PATIENCE_S = 2.0
"""How long a thread waits for another one that asks, in seconds, before it takes an old answer."""


class Reading(NamedTuple, Generic[T]):
    """An answer of the store.

    Attributes:
        value: the answer.
        elapsed: how long ago it was given.
        is_stale: whether it is old because the store does not answer.

    """

    value: T
    elapsed: Span
    is_stale: bool


class _Entry:
    """What is known about one question.

    Attributes:
        lock: is held by the thread that asks.
        value: the last answer.
        at: when it was given, on the boot clock; None for never.
        generation: the number of changes before the last attempt.
        tried_at: when the last attempt ended; None for never.
        error: why the store did not answer then; None if it did.

    """

    __slots__ = ("at", "error", "generation", "lock", "tried_at", "value")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.value: object = None
        self.at: Span | None = None
        self.generation = 0
        self.tried_at: Span | None = None
        self.error: StoreError | NotServingError | None = None


class StoreReader:
    """Remembers answers of the store for a second, and the last ones for an outage.

    Args:
        clock: measures how old answers are.
        kept: how many answers are kept, those that were used last.

    """

    def __init__(self, clock: Clock, *, kept: int = 256) -> None:
        self._clock = clock
        self._kept = kept
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()
        self._generation = 0

    def read(self, key: Hashable, ask: Callable[[], T]) -> Reading[T]:
        """Return the answer to a question: a fresh one, or in an outage the last one.

        A thread that finds another one asking takes the last answer, if that is two seconds old at
        most and nothing was changed here since; else it waits for the other one, for a while.

        Args:
            key: names the question.
            ask: asks the store.

        Raises:
            StoreError: the store does not answer, and never has answered this question.
            NotServingError: likewise; this process cannot reach a store.

        """
        entry = self._entry_of(key)
        if not self._is_settled(entry):
            patience = 0 if self._is_recent(entry) else _PATIENCE_S
            if entry.lock.acquire(timeout=patience):
                try:
                    if not self._is_settled(entry):  # another thread has asked meanwhile
                        self._ask(entry, ask)
                finally:
                    entry.lock.release()
        return self._reading_of(entry)

    def forget(self) -> None:
        """Ask again from now on: something was changed."""
        with self._lock:
            self._generation += 1

    def _is_settled(self, entry: _Entry) -> bool:
        """Return whether the store need not be asked now."""
        tried_at = entry.tried_at
        if tried_at is None or self._clock.boot() - tried_at >= FRESH:
            return False
        return entry.error is not None or entry.generation == self._generation

    def _is_recent(self, entry: _Entry) -> bool:
        """Return whether the last answer may be used while another thread asks."""
        at = entry.at
        if at is None or entry.generation != self._generation:
            return False
        return self._clock.boot() - at < 2 * FRESH

    def _ask(self, entry: _Entry, ask: Callable[[], object]) -> None:
        generation = self._generation
        try:
            value = ask()
        except (StoreError, NotServingError) as error:
            entry.error = error
        else:
            entry.value, entry.error = value, None
            entry.at = self._clock.boot()
        entry.generation = generation
        entry.tried_at = self._clock.boot()

    def _reading_of(self, entry: _Entry) -> Reading[T]:
        error, at = entry.error, entry.at
        if at is None:
            raise error or StoreUnavailableError("the store has not answered yet; ask again")
        elapsed = self._clock.boot() - at
        is_stale = error is not None or elapsed >= 2 * FRESH
        return Reading(entry.value, elapsed, is_stale)  # type: ignore[arg-type] # what `ask` has returned

    def _entry_of(self, key: Hashable) -> _Entry:
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                entry = self._entries[key] = _Entry()
                if len(self._entries) > self._kept:
                    self._evict(key)
            self._entries.move_to_end(key)
            return entry

    def _evict(self, newest: Hashable) -> None:
        """Forget a question that was never answered, or else the one that was asked longest ago."""
        unanswered = (key for key, one in self._entries.items() if one.at is None and key != newest)
        key = next(unanswered, None)
        if key is None:
            self._entries.popitem(last=False)
        else:
            del self._entries[key]
