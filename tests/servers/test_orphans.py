"""Children of mode processing never outlive their parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from signal import SIGKILL
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import is_alive, server_environment, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.server

GONE_S = 2.0


class Host:
    """A process with an engine, and the notes of its application."""

    def __init__(self, folder: Path, kind: str, *paths: str) -> None:
        self.notes = folder / "notes"
        self.notes.touch()
        command = [
            sys.executable,
            "-m",
            "tests.support.engine_host",
            kind,
            "tests.support.child_app:app",
            *paths,
        ]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=server_environment(extra={"NOTES": str(self.notes)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def hear(self) -> list[object]:
        """Return the next line that the host prints."""
        assert self.process.stdout is not None
        line: list[object] = json.loads(self.process.stdout.readline())
        return line

    def noted(self, word: str) -> int:
        """Wait for the process id that is printed with a name, and return it."""
        return wait_until(lambda: self._find(word), what=f"the note {word}")

    def end(self) -> tuple[str, int]:
        """Stop the host in order; return its remaining output and its exit status."""
        output, _ = self.process.communicate(timeout=20)
        return output, self.process.returncode

    def close(self) -> None:
        """Kill the host."""
        self.process.kill()
        self.process.communicate()

    def _find(self, word: str) -> int:
        lines = [line.split() for line in self.notes.read_text().splitlines()]
        return next((int(pid) for name, pid in lines if name == word), 0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Host]]:
    """Return a function that starts hosts; they are killed after the test."""
    hosts: list[Host] = []

    def start_host(kind: str, *paths: str) -> Host:
        hosts.append(Host(tmp_path, kind, *paths))
        return hosts[-1]

    yield start_host
    for host in hosts:
        host.close()


@pytest.mark.parametrize("path", ["/nap", "/native", "/stubborn"])
def test_a_busy_child_dies_with_its_parent(start: Callable[..., Host], path: str) -> None:
    """The child waits, computes in native code, or ignores TERM."""
    host = start("plain", path)
    child = host.noted("busy")
    host.process.send_signal(SIGKILL)
    wait_until(lambda: not is_alive(child), GONE_S, "the child is gone")


def test_a_process_that_a_child_has_started_dies_with_its_parent(
    start: Callable[..., Host],
) -> None:
    """The app in the child has started a process."""
    host = start("plain", "/family")
    family = host.noted("busy"), host.noted("offspring")
    host.process.send_signal(SIGKILL)
    wait_until(lambda: not any(map(is_alive, family)), GONE_S, "the family is gone")


def test_an_idle_child_dies_with_its_parent(start: Callable[..., Host]) -> None:
    """The child is between two runs."""
    host = start("plain", "/pid")
    child = int(str(host.hear()[1]))
    host.process.send_signal(SIGKILL)
    wait_until(lambda: not is_alive(child), GONE_S, "the child is gone")


def test_a_fork_of_the_parent_keeps_no_child_alive(start: Callable[..., Host]) -> None:
    """A sibling that holds the lifeline open does not count as the parent."""
    host = start("forked", "/pid", "/nap")
    child, fork = (int(str(host.hear()[1])) for _ in range(2))
    assert host.noted("busy") == child
    host.process.send_signal(SIGKILL)
    wait_until(lambda: not is_alive(child), GONE_S, "the child is gone")
    was_alive = is_alive(fork)
    os.kill(fork, SIGKILL)
    assert was_alive


def test_a_parent_that_stops_leaves_no_child(start: Callable[..., Host]) -> None:
    """An ordinary exit stops the engine, which ends every child."""
    host = start("plain", "/pid")
    child = int(str(host.hear()[1]))
    assert host.end()[1] == 0
    assert not is_alive(child)


def test_children_work_below_a_parent_patched_by_gevent(start: Callable[..., Host]) -> None:
    """Runs, deaths and timeouts are reported, and the hub is not blocked."""
    host = start("patched", "/pid", "/exit", "/nap", "/pid")
    outcomes = [host.hear()[0] for _ in range(4)]
    output, status = host.end()
    assert (outcomes, status) == (["succeeded", "failed", "timed_out", "succeeded"], 0)
    assert json.loads(output)[1] < 1.0
