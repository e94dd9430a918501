"""A process that takes part forks: the child is a copy that does nothing, the parent goes on."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import pytest
from redis_servers import RedisServer
from servers import HARNESS, Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from postgres import PostgresCluster

pytestmark = pytest.mark.server

SECONDS = 2.5
HALF_A_SECOND = 500_000


class Note(NamedTuple):
    """One line of the site."""

    word: str
    pid: int
    parent: int
    rest: tuple[str, ...]


class Told(NamedTuple):
    """What a host left behind."""

    host: int
    notes: list[Note]
    log: list[str]
    runs: list[tuple[str, int, str]]
    members: list[int]

    def of(self, word: str) -> list[Note]:
        """Return the notes of one kind."""
        return [note for note in self.notes if note.word == word]


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """Return the address of a server that loses nothing."""
    folder = tmp_path / "redis"
    folder.mkdir()
    with RedisServer(folder) as server:
        yield server.url


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the setting of the store that the test names."""
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path}/pulse.db"
        case "postgresql":
            cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
            cluster.forget_applications()
            return cluster.url()
        case "redis":
            return str(request.getfixturevalue("redis_url"))
    return "memory:"


def host(folder: Path, *, store: str, mode: str, way: str, kind: str = "patched") -> Told:
    """Let a process take part and fork, and return what came of it."""
    notes, log = folder / "notes", folder / "log"
    environ = {
        "FORKS_NOTES": str(notes),
        "FORKS_LOG": str(log),
        "FORKS_MODE": mode,
        "FORKS_STORE": store,
        "FORKS_WAY": way,
    }
    command = [sys.executable, str(HARNESS / "forking_host.py"), kind, str(SECONDS)]
    with Server(command, port=None, folder=folder, environ=environ) as process:
        assert process.wait_ended(30) == 0, process.log_text()
    assert "Traceback" not in process.log_text()
    told = json.loads(process.log_text().splitlines()[-1])
    lines = [line.split() for line in notes.read_text().splitlines()]
    read = [Note(words[0], int(words[1]), int(words[2]), tuple(words[3:])) for words in lines]
    runs = [(task, fire_time, outcome) for task, fire_time, outcome in told["runs"]]
    return Told(told["host"], read, log.read_text().splitlines(), runs, told["members"])


def performers(told: Told, mode: str) -> set[int]:
    """Return who has performed runs: the process, or the parent of the one that did."""
    return {run.parent if mode == "processing" else run.pid for run in told.of("run")}


def gaps(told: Told, task: str) -> set[int]:
    """Return the distances between the fire times of a task that ran, one after the other."""
    times = sorted(int(run.rest[1]) for run in told.of("run") if run.rest[0] == task)
    return {later - earlier for earlier, later in pairwise(times)}


@pytest.mark.parametrize("way", ["fork", "multiprocessing", "return", "exit"])
@pytest.mark.parametrize("store", ["memory", "sqlite", "postgresql", "redis"], indirect=True)
@pytest.mark.parametrize("mode", ["gevent", "threading", "processing"])
def test_a_forked_child_of_a_patched_process_takes_no_part(
    tmp_path: Path, store: str, mode: str, way: str
) -> None:
    """Every greenlet is copied into the child, which waits: there none claims, runs or logs."""
    told = host(tmp_path, store=store, mode=mode, way=way)
    assert len(told.of("waited")) >= 1
    assert performers(told, mode) == {told.host}
    assert {note.pid for note in told.of("event")} <= {told.host}
    assert {int(line.split()[0]) for line in told.log} == {told.host}
    assert told.of("raised") == []
    assert {note.rest for note in told.of("refused") if note.parent == told.host} == {("True",)}
    check_parent(told)


def check_parent(told: Told) -> None:
    """Fail if the parent lost a tick, ran one twice or had anything to complain of."""
    ran = Counter(note.rest for note in told.of("run"))
    assert [tick for tick, count in ran.items() if count > 1] == []
    assert {task: gaps(told, task) for task in "abc"} == {task: {HALF_A_SECOND} for task in "abc"}
    assert [line for line in told.log if " INFO " not in line and "threading in" not in line] == []
    assert told.members == [told.host]
    ended = {outcome for task, _, outcome in told.runs if task != "fork"}
    assert ended <= {"succeeded", "None"}
