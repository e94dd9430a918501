"""How a copy in a forked child is marked, and how it is cut off from its parent."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from pulse.errors import NotServingError
from pulse.forks import ForkMark, never_free, sever, stay


@pytest.fixture
def mark() -> ForkMark:
    """Return a mark that is set, as in a forked child."""
    made = ForkMark()
    made.set()
    return made


def test_a_new_mark_is_not_set() -> None:
    """The process that made the mark is not a copy."""
    assert ForkMark().in_child is False


def test_a_mark_that_was_set_stays_set(mark: ForkMark) -> None:
    """A fork of a forked child is a copy too."""
    mark.set()
    assert mark.in_child is True


def test_a_refusal_names_both_processes_and_the_remedy(mark: ForkMark) -> None:
    """The error names the process of the call, the process of the scheduler and the remedy."""
    error = mark.refusal()
    assert isinstance(error, NotServingError)
    assert f"process {os.getpid()}, its forked child" in str(error)
    assert f"process {mark.pid}, where the scheduler has started" in str(error)
    assert "make the call in the parent process" in str(error)


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        pytest.param(SystemExit(0), True, id="exit"),
        pytest.param(KeyboardInterrupt(), True, id="Ctrl-C"),
        pytest.param(ValueError(), False, id="a failure"),
        pytest.param(GeneratorExit(), False, id="another end"),
    ],
)
def test_an_exit_ends_the_child_but_not_the_parent(
    mark: ForkMark, error: BaseException, *, ends: bool
) -> None:
    """Only exceptions that exit a program end the child."""
    assert (mark.ends_child(error), ForkMark().ends_child(error)) == (ends, False)


def test_no_thread_is_blocked_in_a_process_without_greenlets(mark: ForkMark) -> None:
    """The only thread of a child is the one that forked, and it continues."""
    stay()
    mark.stay()
    mark.outlast_forker()
    assert mark.in_child


def test_a_severed_descriptor_neither_receives_nor_sends() -> None:
    """The parent's connection itself still works."""
    parent, peer = socket.socketpair()
    with parent, peer:
        copy = os.dup(parent.fileno())
        peer.sendall(b"an answer")
        sever(copy)
        with pytest.raises(BlockingIOError):
            os.read(copy, 1)
        with pytest.raises(OSError, match="not connected"):
            os.write(copy, b"a question")
        os.close(copy)
        assert parent.recv(100) == b"an answer"
        parent.sendall(b"a question")
        assert peer.recv(100) == b"a question"


def test_a_severed_descriptor_is_not_inheritable() -> None:
    """It is closed if the child executes another program."""
    copy = os.dup(0)
    sever(copy)
    assert os.get_inheritable(copy) is False
    os.close(copy)


def test_severing_a_closed_socket_opens_nothing() -> None:
    """A closed socket has no descriptor."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    sever(-1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_object_that_is_never_freed_has_one_more_reference() -> None:
    """The reference is never released."""
    thing = object()
    before = sys.getrefcount(thing)
    never_free(thing)
    assert sys.getrefcount(thing) == before + 1
