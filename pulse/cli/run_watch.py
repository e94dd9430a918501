"""Watches a run in the main thread: renews its claim, ends it at its timeout or when asked to."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.run import Outcome
from pulse.engine.base import Interruption
from pulse.errors import StoreError
from pulse.patching import process_is_patched

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from pulse.clock import Clock, Span
    from pulse.core.run import Claim
    from pulse.store.base import Store
    from pulse.wsgi.foreground import ForegroundCaller

    Interrupt = Callable[[Interruption], None]

_STEP: Span = SECOND // 4
_CHECK_EVERY: Span = SECOND
"""How often the request to stop a run is read, as the processes of a server do."""

_RENEWALS = 3
"""How often a claim is renewed in the length of its lease."""


class RunWatch:
    """A thread beside a run that the main thread performs.

    Args:
        claim: the run.
        clock: measures the timeout and the lease.
        store: renews the claim and has requests to stop the run; None for a run without a record.
        interrupt: raises an interruption inside the run.

    """

    def __init__(
        self, claim: Claim, clock: Clock, *, store: Store | None, interrupt: Interrupt
    ) -> None:
        self._claim = claim
        self._clock = clock
        self._store = store
        self._interrupt = interrupt
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pulse-watch", daemon=True)

    def __enter__(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        """Watch no more."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        begun = self._clock.boot()
        lease = self._claim.good_until - begun
        timeout_at = begun + self._claim.definition.timeout_us
        check_at, renew_at = begun + _CHECK_EVERY, begun + lease // _RENEWALS
        while not self._ended.wait(_STEP / SECOND):
            now = self._clock.boot()
            if now >= timeout_at:
                timeout_at = now + _CHECK_EVERY  # an application may have caught the interruption
                self._interrupt(Interruption(self._claim, Outcome.TIMED_OUT))
            if self._store is None:
                continue
            try:
                if now >= renew_at:
                    renew_at = now + lease // _RENEWALS
                    self._store.renew([self._claim])
                if now >= check_at:
                    check_at = now + _CHECK_EVERY
                    self._check_stop(self._store)
            except StoreError as error:
                print(f"pulse: {error}", file=sys.stderr)  # noqa: T201 - the output of the command

    def _check_stop(self, store: Store) -> None:
        request = store.stop_request(self._claim.run)
        if request is not None:
            self._interrupt(Interruption(self._claim, Outcome.INTERRUPTED, request.reason()))


@contextmanager
def interrupting(caller: ForegroundCaller) -> Iterator[Interrupt]:
    """Return a function that interrupts the call of the main thread.

    SIGTERM and, unless it is ignored as by nohup, SIGHUP act like Ctrl-C.

    A signal ends also a system call that waits. In a process that gevent has patched, the greenlet
    of the call is interrupted when it waits.
    """
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {one: signal.signal(one, signal.default_int_handler) for one in numbers}
    try:
        if process_is_patched():
            yield _killer(caller)
        else:
            with _signalling(caller) as interrupt:
                yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _killer(caller: ForegroundCaller) -> Interrupt:
    import gevent

    here, hub = gevent.getcurrent(), gevent.get_hub()

    def throw(stop: Interruption) -> None:
        if caller.is_calling:  # the call may have ended since the interruption was asked for
            here.throw(stop)

    def interrupt(stop: Interruption) -> None:
        hub.loop.run_callback(throw, stop)

    return interrupt


@contextmanager
def _signalling(caller: ForegroundCaller) -> Iterator[Interrupt]:
    stops: list[Interruption] = []
    main = threading.get_ident()

    def handle(_: int, __: FrameType | None) -> None:
        if stops and caller.is_calling:
            raise stops.pop()

    def interrupt(stop: Interruption) -> None:
        stops[:] = [stop]
        signal.pthread_kill(main, signal.SIGRTMIN)

    before = signal.signal(signal.SIGRTMIN, handle)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGRTMIN, before)
