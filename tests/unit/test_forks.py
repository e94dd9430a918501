"""What a copy in a forked child is told apart by, and how it is cut off from its parent."""

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
    """Return a mark that says: this is the child."""
    made = ForkMark()
    made.set()
    return made


def test_a_mark_is_not_set_where_it_is_made() -> None:
    """The process that made it takes part."""
    assert ForkMark().in_child is False


def test_a_mark_that_was_set_stays_set(mark: ForkMark) -> None:
    """A fork of a fork is a copy, too."""
    mark.set()
    assert mark.in_child is True


def test_a_refusal_names_both_processes_and_what_to_do(mark: ForkMark) -> None:
    """The error says where the call was made, where it belongs, and how to put it right."""
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
def test_what_ends_a_program_ends_the_child(
    mark: ForkMark, error: BaseException, *, ends: bool
) -> None:
    """And nothing ends the parent."""
    assert (mark.ends_child(error), ForkMark().ends_child(error)) == (ends, False)


def test_nobody_stays_in_a_process_without_greenlets(mark: ForkMark) -> None:
    """The only thread of a child is the one that forked, and it goes on."""
    stay()
    mark.stay()
    mark.outlast_forker()
    assert mark.in_child


def test_a_severed_descriptor_leads_nowhere() -> None:
    """Nothing comes from it and nothing can be sent, while the connection itself goes on."""
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


def test_a_severed_descriptor_is_not_inherited_by_programs() -> None:
    """It is closed where another program takes the child's place."""
    copy = os.dup(0)
    sever(copy)
    assert os.get_inheritable(copy) is False
    os.close(copy)


def test_severing_what_is_closed_opens_nothing() -> None:
    """A socket that has been closed has no descriptor any more."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    sever(-1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_is_never_freed_has_an_owner_more() -> None:
    """A reference that nobody gives back."""
    thing = object()
    before = sys.getrefcount(thing)
    never_free(thing)
    assert sys.getrefcount(thing) == before + 1
