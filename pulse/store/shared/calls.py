"""Calls of one store: rules that run in sessions of a backend, and what follows when one fails.

A storage that was replaced is opened again at once, and otherwise by each later call until it
works. The loop must get the error of a replaced storage once, since only that error says what
became of the old one: if the error of a call does not reach it, the next heartbeat raises it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from pulse.errors import StoreUnavailableError
from pulse.store.shared.backend import StorageReplacedError, Written
from pulse.store.shared.recovery import RecoveryWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.clock import Clock
    from pulse.store.shared.backend import Backend, Session, Transaction

T = TypeVar("T")


class Calls:
    """Runs the rules of one store.

    Args:
        backend: the storage.
        clock: measures the recovery window.
        rejoin: opens the storage again after it was replaced.
        forget: called after each failed call: what was observed before it counts no more.

    Attributes:
        recovery: the recovery window after a failed call.
        written: what rules have written and no heartbeat has reported yet.

    """

    def __init__(
        self,
        backend: Backend,
        clock: Clock,
        *,
        rejoin: Callable[[], None],
        forget: Callable[[], None],
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._rejoin = rejoin
        self._forget = forget
        self._is_open = False
        self._must_rejoin = False
        # What the loop has not got yet: errors of replaced storages, by their texts, and another.
        self._replaced: dict[str, StorageReplacedError] = {}
        self._postponed: Exception | None = None
        self.recovery: RecoveryWindow = RecoveryWindow()
        self.written: Written = Written()

    def open(self) -> None:
        """Let rules run from now on."""
        self._is_open, self._must_rejoin, self.recovery = True, False, RecoveryWindow()

    def close(self) -> None:
        """Refuse all calls from now on."""
        self._is_open = False

    def refuse_closed(self) -> None:
        """Raise StoreUnavailableError unless the store is open."""
        if not self._is_open:
            raise StoreUnavailableError(f"{self._backend.name}: the store is not open")

    def run(
        self, how: Transaction, rule: Callable[[Session], T], *, reaches_loop: bool = True
    ) -> T:
        """Return what *rule* returns, which runs in a session.

        Args:
            how: what the session needs.
            rule: the rule.
            reaches_loop: whether the loop of the process gets an error of this call; while the
                storage is opened again it does not, since it gets that of the call around it.

        """
        self.refuse_closed()
        try:
            if self._must_rejoin:
                self._open_again()
            result = self._backend.run(how, rule)
        except StoreUnavailableError as error:
            self._forget()
            self.recovery.failed()
            last: StoreUnavailableError = error
            if isinstance(error, StorageReplacedError):
                self.postpone(error)
                last = self._error_of_rejoining() or error
            if reaches_loop:
                last = self._take_replaced(last)
            if last is error:
                raise
            raise last from error
        if self.recovery.away:
            self.recovery.answered(self._clock.boot())
        return result

    def run_writing(
        self, how: Transaction, rule: Callable[[Session, Written], T], *, reaches_loop: bool = True
    ) -> tuple[T, Written]:
        """Return what *rule* returns, and what it has written.

        What was written before an error, and is not undone by it, is left to the next heartbeat.
        """
        written = Written()

        def run(session: Session) -> T:
            nonlocal written
            written = Written()  # what an earlier attempt wrote was rolled back
            return rule(session, written)

        try:
            return self.run(how, run, reaches_loop=reaches_loop), written
        except BaseException:
            if not self._backend.rolls_back:
                self.written.add(written)
            raise

    def postpone(self, error: Exception) -> None:
        """Leave an error to the next heartbeat: its own call returns a result all the same.

        Errors of replaced storages are raised first; of the others, the last one is kept.
        """
        if isinstance(error, StorageReplacedError):
            self._replaced.setdefault(str(error), error)
        else:
            self._postponed = error

    def raise_postponed(self) -> None:
        """Raise an error that the loop has not got yet, if there is one."""
        if replaced := [*self._replaced.values()]:
            raise self._take_replaced(replaced[-1])
        postponed, self._postponed = self._postponed, None
        if postponed is not None:
            raise postponed

    def _open_again(self) -> None:
        self._must_rejoin = False
        try:
            self._rejoin()
        except BaseException:
            self._must_rejoin = True
            raise

    def _error_of_rejoining(self) -> StoreUnavailableError | None:
        try:
            self._open_again()
        except StoreUnavailableError as error:
            return error
        return None

    def _take_replaced(self, error: StoreUnavailableError) -> StoreUnavailableError:
        """Return *error*, after errors of replaced storages that the loop has not got yet."""
        texts = [*self._replaced]
        for text in texts:  # another thread may add an error meanwhile, which stays
            self._replaced.pop(text, None)
        text = str(error)
        earlier = [one for one in texts if one != text]
        return type(error)("; ".join((*earlier, text))) if earlier else error
