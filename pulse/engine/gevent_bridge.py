"""Calls between native threads and the hub, in a process that gevent has patched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from gevent.hub import Hub

T = TypeVar("T")


def call_in_hub(hub: Hub, call: Callable[[], None]) -> None:
    """Run *call* in a greenlet of *hub*, which belongs to another thread, and wait for it."""
    import gevent
    from gevent.monkey import get_original

    ended = get_original("_thread", "allocate_lock")()
    ended.acquire()

    def call_and_release() -> None:
        try:
            call()
        finally:
            ended.release()

    hub.loop.run_callback_threadsafe(gevent.spawn, call_and_release)
    ended.acquire()


class NativeThread:
    """One native thread beside the hub, for calls that block without yielding."""

    __slots__ = ("_hub", "_pool")

    def __init__(self) -> None:
        from gevent import get_hub
        from gevent.threadpool import ThreadPool

        self._hub = get_hub()
        self._pool = ThreadPool(1)

    def call(self, call: Callable[[], T]) -> T:
        """Return what *call* returns while the hub continues; outside the hub's thread, call it."""
        from gevent import get_hub

        if get_hub() is not self._hub:
            return call()
        answer: _OffloadedCall[T] = self._pool.apply(_OffloadedCall, (call,))
        return answer.value()


class _OffloadedCall(Generic[T]):
    """What a call returned or raised. gevent prints an exception in a pool, so it is kept here."""

    __slots__ = ("_error", "_value")

    def __init__(self, call: Callable[[], T]) -> None:
        self._error: BaseException | None = None
        try:
            self._value = call()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller
            self._error = error

    def value(self) -> T:
        if self._error is not None:
            raise self._error
        return self._value
