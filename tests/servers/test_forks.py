"""A process in which pulse runs forks: the child is a copy without effect."""

from __future__ import annotations

import json
import sys
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.support.redis_servers import RedisServer
from tests.support.servers import UNMEASURED, Server, free_port, program
from tests.support.variants import combinations

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgres import PostgresCluster

pytestmark = pytest.mark.server

SECONDS = 2.5
HALF_A_SECOND = 500_000

STORES = ["memory", "sqlite", "postgresql", "redis"]


class Note(NamedTuple):
    """One line of the site."""

    word: str
    pid: int
    parent: int
    rest: tuple[str, ...]


class HostResult(NamedTuple):
    """The output and the notes of a host."""

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
    """Return the setting `store` for the store that the test names."""
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


def host(folder: Path, *, store: str, mode: str, way: str, kind: str = "patched") -> HostResult:
    """Run a host that forks, and return its results."""
    notes, log = folder / "notes", folder / "log"
    environ: dict[str, str | None] = {
        **UNMEASURED,  # 68 starts take long enough without; contracts measure the same code
        "FORKS_NOTES": str(notes),
        "FORKS_LOG": str(log),
        "FORKS_MODE": mode,
        "FORKS_STORE": store,
        "FORKS_WAY": way,
    }
    command = [sys.executable, "-m", "tests.support.forking_host", kind, str(SECONDS)]
    with Server(command, port=None, folder=folder, environ=environ) as process:
        assert process.wait_ended(30) == 0, process.log_text()
    assert "Traceback" not in process.log_text()
    result = json.loads(process.log_text().splitlines()[-1])
    lines = [line.split() for line in notes.read_text().splitlines()]
    read = [Note(words[0], int(words[1]), int(words[2]), tuple(words[3:])) for words in lines]
    runs = [(task, fire_time, outcome) for task, fire_time, outcome in result["runs"]]
    return HostResult(result["host"], read, log.read_text().splitlines(), runs, result["members"])


def performers(result: HostResult, mode: str) -> set[int]:
    """Return the pids that performed runs: the process, or the parent of its child."""
    return {run.parent if mode == "processing" else run.pid for run in result.of("run")}


def gaps(result: HostResult, task: str) -> set[int]:
    """Return the intervals between consecutive fire times of a task that ran."""
    times = sorted(int(run.rest[1]) for run in result.of("run") if run.rest[0] == task)
    return {later - earlier for earlier, later in pairwise(times)}


@pytest.mark.parametrize(
    ("mode", "store", "way"),
    combinations(
        ["gevent", "threading", "processing"],
        STORES,
        ["fork", "multiprocessing", "return", "exit"],
    ),
    indirect=["store"],
)
def test_a_forked_child_of_a_patched_process_has_no_effect(
    tmp_path: Path, store: str, mode: str, way: str
) -> None:
    """Every greenlet is copied into the child; none claims, runs or logs there."""
    result = host(tmp_path, store=store, mode=mode, way=way)
    assert len(result.of("waited")) >= 1
    assert performers(result, mode) == {result.host}
    assert {note.pid for note in result.of("event")} <= {result.host}
    assert {int(line.split()[0]) for line in result.log} == {result.host}
    assert result.of("raised") == []
    assert {note.rest for note in result.of("refused") if note.parent == result.host} == {("True",)}
    check_parent(result)


@pytest.mark.parametrize(
    ("mode", "store", "way"),
    combinations(["threading", "processing"], STORES, ["return", "exit", "multiprocessing"]),
    indirect=["store"],
)
def test_a_forked_child_of_an_ordinary_process_has_no_effect(
    tmp_path: Path, store: str, mode: str, way: str
) -> None:
    """Only the thread that forked continues there; the result of its run is not recorded."""
    result = host(tmp_path, store=store, mode=mode, way=way, kind="plain")
    assert len(result.of("waited")) >= 1
    assert performers(result, mode) == {result.host}
    assert {note.pid for note in result.of("event")} <= {result.host}
    assert {int(line.split()[0]) for line in result.log} == {result.host}
    check_parent(result)


def check_parent(result: HostResult) -> None:
    """Fail if the parent lost a tick, ran one twice or logged a problem."""
    ran = Counter(note.rest for note in result.of("run"))
    assert [tick for tick, count in ran.items() if count > 1] == []
    assert {task: gaps(result, task) for task in "abc"} == {task: {HALF_A_SECOND} for task in "abc"}
    assert [
        line for line in result.log if " INFO " not in line and "threading in" not in line
    ] == []
    assert result.members == [result.host]
    ended = {outcome for task, _, outcome in result.runs if task != "fork"}
    assert ended <= {"succeeded", "None"}


# Servers --------------------------------------------------------------------------------------


def accepting(folder: Path, command: list[str], **environ: str) -> Server:
    """Return a server whose forked children accept connections by accident, not yet started."""
    port = free_port()
    words = [word.format(port=port) for word in command]
    runs = folder / "runs"
    runs.touch()
    return Server(words, port=port, folder=folder, environ={"RUNS": str(runs), **environ})


def noted(folder: Path, word: str) -> list[list[str]]:
    """Return the values for a name in the notes of that site."""
    lines = [line.split() for line in (folder / "runs").read_text().splitlines()]
    return [line[1:] for line in lines if line[0] == word]


@pytest.mark.parametrize("start", ["auto", "eager"])
def test_pulse_does_not_start_in_a_child_that_accepts_by_accident(
    tmp_path: Path, start: str
) -> None:
    """Copied greenlets accept connections, so the child answers requests for a while."""
    command = [sys.executable, "-m", "tests.support.accepting_site", "{port}"]
    with accepting(tmp_path, command, START=start) as server:
        assert server.get("/").text == f"{server.pid} here"
        server.get("/fork")
        answers = set()

        def both_answered() -> bool:
            answers.add(server.get("/").text)
            return len(answers) > 1

        server.wait_for(both_answered, what="the child answers")
        server.wait_for(lambda: len(noted(tmp_path, "run")) >= 8, what="eight runs")
        assert {answer.split()[1] for answer in answers} == {"here", "refused"}
        assert {run[0] for run in noted(tmp_path, "run")} == {str(server.pid)}


def test_a_child_that_is_forked_during_a_drain_finishes_its_work(tmp_path: Path) -> None:
    """The copied shutdown ends neither the child nor anything of the worker."""
    command = [program("gunicorn"), "-k", "gevent", "-b", "127.0.0.1:{port}"]
    command += ["--no-control-socket", "tests.support.accepting_site:application"]
    with accepting(tmp_path, command, LONG="1") as server:
        server.wait_for(lambda: ["/long"] in [run[1:] for run in noted(tmp_path, "run")])
        assert server.stop(timeout=20) == 0
        (worker,) = {run[0] for run in noted(tmp_path, "run")}
        assert noted(tmp_path, "joined") == [[worker, "0"]]
        assert len(noted(tmp_path, "ended")) == 1
        assert "Traceback" not in server.log_text()
        assert "WARNING" not in server.log_text()


@pytest.mark.parametrize("kind", ["gevent", "sync"])
def test_pulse_starts_in_workers_of_a_patched_master_that_has_started(
    tmp_path: Path, kind: str
) -> None:
    """With `start = eager` and preload pulse runs in the master; its copies have no effect."""
    site = tmp_path / "patched_site.py"
    site.write_text(
        "from gevent import monkey\nmonkey.patch_all()\nfrom tests.support import accepting_site\n"
    )
    with site.open("a") as more:
        more.write("application = accepting_site.application\n")
    command = [program("gunicorn"), "-k", kind, "-w", "2", "-b", "127.0.0.1:{port}", "--preload"]
    command += ["--no-control-socket", "patched_site:application"]
    with accepting(tmp_path, command, START="eager") as server:
        workers = {
            str(pid) for pid in server.wait_for(lambda: server.workers()[1:] and server.workers())
        }
        server.wait_for(lambda: workers <= {run[0] for run in noted(tmp_path, "run")})
        answer = server.get("/").text.split()
        runs = noted(tmp_path, "run")
        assert (answer[0] in workers, answer[1]) == (True, "here")
        assert {run[0] for run in runs} <= {str(server.pid), *workers}
        assert "Traceback" not in server.log_text()
