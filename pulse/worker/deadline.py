"""Kills this process at an instant, whatever it does: by a timer of the kernel.

Native code that lets no other Python thread go on cannot be ended by any of them. The timer needs
no thread and no interpreter, and a process that the application forks does not inherit it
(timer_create(2), POSIX.1-2017).
"""

from __future__ import annotations

import ctypes
import os
import signal
from ctypes import POINTER, Structure, byref, c_byte, c_int, c_long, c_void_p
from typing import TYPE_CHECKING, ClassVar

from pulse.clock import SECOND

if TYPE_CHECKING:
    from pulse.clock import Span

_CLOCK_MONOTONIC = 1
_SIGEV_SIGNAL = 0
_SIGEVENT_SIZE = 64


class _Event(Structure):
    _fields_: ClassVar = [  # struct sigevent of Linux
        ("value", c_void_p),
        ("signo", c_int),
        ("notify", c_int),
        ("rest", c_byte * (_SIGEVENT_SIZE - ctypes.sizeof(c_void_p) - 2 * ctypes.sizeof(c_int))),
    ]


class _Times(Structure):
    _fields_: ClassVar = [  # struct itimerspec: interval, then value, in seconds and nanoseconds
        ("interval_s", c_long),
        ("interval_ns", c_long),
        ("value_s", c_long),
        ("value_ns", c_long),
    ]


class KillTimer:
    """A timer of this process, which kills it by SIGKILL; made in the process, after any fork.

    Raises:
        OSError: the system has no such timers.

    """

    def __init__(self) -> None:
        self._library = _library()
        self._timer = c_void_p()
        event = _Event(signo=signal.SIGKILL, notify=_SIGEV_SIGNAL)
        if self._library.timer_create(_CLOCK_MONOTONIC, byref(event), byref(self._timer)):
            _raise()

    def start(self, after: Span) -> None:
        """Kill this process after that time, unless the timer is started or stopped before."""
        seconds, rest = divmod(max(after, 1), SECOND)
        self._set(_Times(value_s=seconds, value_ns=rest * 1_000))

    def stop(self) -> None:
        """Let this process live."""
        self._set(_Times())

    def _set(self, times: _Times) -> None:
        if self._library.timer_settime(self._timer, 0, byref(times), None):
            _raise()


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "timer_create"):  # glibc before 2.34
        library = ctypes.CDLL("librt.so.1", use_errno=True)
    library.timer_create.argtypes = [c_int, POINTER(_Event), POINTER(c_void_p)]
    library.timer_settime.argtypes = [c_void_p, c_int, POINTER(_Times), c_void_p]
    return library


def _raise() -> None:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number))
