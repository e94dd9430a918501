"""Code that runs in an interpreter given by its number; here it is the one of the tests.

Tests with real servers cover several interpreters of uWSGI.
"""

from __future__ import annotations

import atexit
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pulse.serving import interpreters
from pulse.serving.interpreters import (
    FIRST,
    call_after_fork,
    call_at_exit,
    run_after_fork,
    run_at_exit,
    run_in,
    this_interpreter,
)

if TYPE_CHECKING:
    from collections.abc import Callable

UNUSED_NUMBER = 10**6


@pytest.fixture
def uwsgi(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a fake of the module `uwsgi`."""
    module = SimpleNamespace(calls=[])
    monkeypatch.setitem(sys.modules, "uwsgi", module)
    return module


@pytest.fixture
def at_exit(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Return the functions that are registered to run at exit; the test calls them."""
    registered: list[Callable[[], object]] = []

    def register(function: Callable[..., object], *arguments: object) -> None:
        registered.append(lambda: function(*arguments))

    monkeypatch.setattr(atexit, "register", register)
    return registered


def call(name: str) -> str:
    """Return code that records a call in the module `uwsgi`."""
    return f"__import__('uwsgi').calls.append({name!r})"


def test_tests_run_in_the_first_interpreter() -> None:
    """The first interpreter of a process has number 0."""
    assert this_interpreter() == FIRST == 0


def test_code_runs_in_the_interpreter(uwsgi: SimpleNamespace) -> None:
    """The code runs at once, and its success is reported."""
    assert run_in(FIRST, call("ran")) is True
    assert uwsgi.calls == ["ran"]


def test_an_exception_of_the_code_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """The caller gets False, not the exception."""
    assert run_in(FIRST, "1 / 0") is False
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_code_may_enter_an_interpreter_itself(uwsgi: SimpleNamespace) -> None:
    """Calls from one interpreter into another may be nested."""
    inner = f"__import__('pulse.serving.interpreters', fromlist=['*']).run_in(0, {call('inner')!r})"

    assert run_in(FIRST, inner) is True
    assert uwsgi.calls == ["inner"]


def test_an_interpreter_that_does_not_exist_is_an_error() -> None:
    """The error names the number."""
    with pytest.raises(RuntimeError, match=rf"expected the number .*, got {UNUSED_NUMBER}"):
        run_in(UNUSED_NUMBER, "pass")


def test_a_hook_runs_the_code_after_the_users_own(uwsgi: SimpleNamespace) -> None:
    """Then it runs the code of the other interpreters, in the order of their loading."""
    uwsgi.post_fork_hook = lambda: uwsgi.calls.append("own")
    run_after_fork(FIRST, call("second"))
    run_after_fork(FIRST, call("third"))

    uwsgi.post_fork_hook()

    assert uwsgi.calls == ["own", "second", "third"]


def test_a_hook_is_set_if_there_is_none(uwsgi: SimpleNamespace) -> None:
    """The first application need not have a hook."""
    call_after_fork(call("ran"))

    uwsgi.post_fork_hook()

    assert uwsgi.calls == ["ran"]


def test_a_hook_that_raises_does_not_stop_the_others(uwsgi: SimpleNamespace) -> None:
    """The caller, uWSGI, prints the exception; the code of the other interpreters runs."""
    uwsgi.post_fork_hook = lambda: 1 / 0
    run_after_fork(FIRST, call("ran"))

    with pytest.raises(ZeroDivisionError):
        uwsgi.post_fork_hook()

    assert uwsgi.calls == ["ran"]


def test_code_runs_at_exit(uwsgi: SimpleNamespace, at_exit: list[Callable[[], object]]) -> None:
    """The code runs with the at-exit functions of the first interpreter, not before."""
    run_at_exit(FIRST, call("direct"))
    call_at_exit(call("from another"))
    assert uwsgi.calls == []

    for function in at_exit:
        function()

    assert uwsgi.calls == ["direct", "from another"]


def test_a_failure_in_the_first_interpreter_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without the module `uwsgi` no hook can be set, and the traceback of the cause is printed."""
    monkeypatch.delitem(sys.modules, "uwsgi", raising=False)

    with pytest.raises(RuntimeError, match="run_after_fork failed in the first interpreter"):
        call_after_fork("pass")

    assert "ModuleNotFoundError" in capfd.readouterr().err


def test_the_file_imports_nothing_of_pulse(uwsgi: SimpleNamespace) -> None:
    """The first interpreter executes the file by its path, where pulse may be absent."""
    hidden = "sys.modules.update(dict.fromkeys([n for n in sys.modules if n.startswith('pulse')]))"
    load = f"import runpy; runpy.run_path({interpreters.__file__!r})"
    known = dict(sys.modules)
    try:
        loaded = run_in(FIRST, f"import sys; {hidden}; {load}")
    finally:
        sys.modules.update(known)

    assert loaded is True
    assert not hasattr(uwsgi, "post_fork_hook")
