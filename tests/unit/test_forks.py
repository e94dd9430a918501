"""How a copy in a forked child is marked, and how it is cut off from its parent."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
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


SIGNALLED = """
import os, signal, sys, threading, time
from pulse.forks import ForkSignals

class Stopped(BaseException): pass

def handle(number, _):
    if os.getpid() != parent:
        os._exit(15)
    if not forks.defers(number) and not raised:
        raised.append(number)
        raise Stopped

def fork():
    child = os.fork()
    if child == 0:
        os.closerange(0, 3)
        signal.sigtimedwait([], 10)
        os._exit(7)
    return child

parent, forks, kind = os.getpid(), ForkSignals(signal.SIGTERM), sys.argv[1]
raised = []
signal.signal(signal.SIGTERM, handle)
if kind != "child":
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
if kind == "parent":
    os.register_at_fork(before=lambda: os.kill(parent, signal.SIGTERM))
    os.register_at_fork(after_in_parent=lambda: os.kill(parent, signal.SIGTERM))
forks.register()
"""

IN_CHILD = """
child = fork()
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""

IN_PARENT = """
import logging
try:
    fork()
    time.sleep(10)
except Stopped:
    print("raised")
user = threading.Thread(target=logging.getLogger, args=("other",))
user.start()
user.join(10)
print("logging", user.is_alive())
os._exit(0)
"""

BLOCKED = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
fork()
print(*signal.pthread_sigmask(signal.SIG_BLOCK, []))
os._exit(0)
"""


def signalled(kind: str, program: str) -> list[str]:
    """Return what a process prints that forks, where it or its child gets SIGTERM."""
    # Another process, since pytest has hooks of the fork of its own.
    command = [sys.executable, "-c", SIGNALLED + program, kind]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stderr == ""
    return ended.stdout.split()


def test_a_forked_child_handles_a_signal_that_was_sent_right_after_the_fork() -> None:
    """CPython alone forgets a signal whose handler has not run when the child begins."""
    assert signalled("child", IN_CHILD) == ["15"]


def test_what_a_handler_raises_during_a_fork_is_raised_after_the_hooks() -> None:
    """CPython alone drops what is raised inside a hook, which may then never release a lock.

    Another thread of the process takes the signal.
    """
    assert signalled("parent", IN_PARENT) == ["raised", "logging", "False"]


def test_a_thread_that_has_blocked_a_signal_still_blocks_it_after_a_fork() -> None:
    """The application may rely on it."""
    assert signalled("blocked", BLOCKED) == [str(int(signal.SIGTERM))]
