"""Runs code in another Python interpreter of this process, in the thread that asks for it.

Theory of operation
-------------------
uWSGI gives each application of `--mount` an interpreter of its own, unless it is started with
`--single-interpreter`. It calls hooks and at-exit functions in the first interpreter only. The
other interpreters of a worker run no code before the first request to their application, so code
that belongs to them has to be started from the first one.

Python before 3.14 has no public function for that, but its C API has, and `ctypes` calls it:

    PyThreadState_New      make a state of this thread for the other interpreter
    PyThreadState_Swap     enter the other interpreter
    PyRun_SimpleString     run the code; an exception is printed on stderr
    PyThreadState_Clear    empty the state, which only the interpreter that owns it may do
    PyThreadState_Swap     return
    PyThreadState_Delete   free the state

Between the two swaps the calling interpreter must not execute bytecode: its evaluation loop would
use the thread state of the other one. So the four calls in between are made by C code, by one
`list(map(...))`. None of the four raises an exception, so `map` does not stop in between.

The name of an interpreter is its number: the first one is 0, and a number is never used twice.

This module imports nothing of pulse, because the first interpreter executes the file of this
module by its path: the application there may have other packages, and pulse may be absent.
"""

from __future__ import annotations

import atexit
import importlib
from ctypes import PYFUNCTYPE, c_char_p, c_int, c_int64, c_void_p, pythonapi
from functools import partial
from operator import call
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST = 0


def this_interpreter() -> int:
    """Return the number of the interpreter that executes this call."""
    return _number_of(_c_function("PyInterpreterState_Get", c_void_p)())


def run_in(number: int, code: str) -> bool:
    """Run *code* in the interpreter *number*, and return whether it raised no exception.

    Raises:
        RuntimeError: this process has no interpreter of that number.

    """
    swap = _c_function("PyThreadState_Swap", c_void_p, c_void_p)
    there = _c_function("PyThreadState_New", c_void_p, c_void_p)(_find(number))
    here = _c_function("PyThreadState_Get", c_void_p)()
    calls = (
        partial(swap, there),
        partial(_c_function("PyRun_SimpleString", c_int, c_char_p), code.encode()),
        partial(_c_function("PyThreadState_Clear", None, c_void_p), there),
        partial(swap, here),
    )
    _, failed, _, _ = list(map(call, calls))
    _c_function("PyThreadState_Delete", None, c_void_p)(there)
    return not failed


def call_after_fork(code: str) -> None:
    """Make uWSGI's workers run *code* in this interpreter after their fork.

    Raises:
        RuntimeError: the first interpreter did not accept the hook.

    """
    _call_in_first("run_after_fork", code)


def call_at_exit(code: str) -> None:
    """Run *code* in this interpreter before the process ends.

    Raises:
        RuntimeError: the first interpreter did not accept the function.

    """
    _call_in_first("run_at_exit", code)


def run_after_fork(number: int, code: str) -> None:
    """Set a uWSGI hook that runs *code* in interpreter *number*; called in the first one."""
    uwsgi = importlib.import_module("uwsgi")
    theirs = getattr(uwsgi, "post_fork_hook", None)

    def hook() -> None:
        try:
            if theirs is not None:
                theirs()
        finally:
            run_in(number, code)

    setattr(uwsgi, "post_fork_hook", hook)  # noqa: B010 - the module has no types


def run_at_exit(number: int, code: str) -> None:
    """Register an at-exit call of *code* in interpreter *number*; called in the first one."""
    atexit.register(run_in, number, code)


def _call_in_first(function: str, code: str) -> None:
    """Call a function of this file in the first interpreter, for the interpreter of the caller."""
    number = this_interpreter()
    file = f"__import__('runpy').run_path({__file__!r})"
    if not run_in(FIRST, f"{file}[{function!r}]({number}, {code!r})"):
        message = f"{function} failed in the first interpreter, see the traceback above"
        raise RuntimeError(message)


def _find(number: int) -> int:
    state = _c_function("PyInterpreterState_Head", c_void_p)()
    following = _c_function("PyInterpreterState_Next", c_void_p, c_void_p)
    while state and _number_of(state) != number:
        state = following(state)
    if not state:
        message = f"expected the number of an interpreter of this process, got {number}"
        raise RuntimeError(message)
    return int(state)


def _number_of(state: int) -> int:
    return int(_c_function("PyInterpreterState_GetID", c_int64, c_void_p)(state))


def _c_function(name: str, result: type[Any] | None, *arguments: type[Any]) -> Callable[..., Any]:
    """Return a function of Python's C API, which is called with the interpreter's lock held."""
    return PYFUNCTYPE(result, *arguments)((name, pythonapi))
