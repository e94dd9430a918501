"""Data that commit 418fe14 stored works with the present code, in each store.

`stored/418fe14` contains the data, the program that made it, and what that commit itself returned:
the clock, tasks, runs and processes. From that instant on the recorded processes do nothing more,
and a process with the present code joins.
"""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from pulse import Task
from pulse.store.base import StoreOptions
from pulse.store.postgres.store import PostgresStore
from pulse.store.redis.store import RedisStore
from pulse.store.sqlite.store import SqliteStore
from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import LEASE_S, Fleet, holders
from tests.support.redis_servers import empty_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pulse.clock import Clock
    from pulse.core.run import Claim
    from pulse.store.base import Store
    from tests.contracts.suite.store_harness import Process
    from tests.support.children import RunChild
    from tests.support.postgres import PostgresCluster

    Record = dict[str, Any]
    Make = Callable[..., Store]

DATA = Path(__file__).parent / "stored" / "418fe14"
SPACE, NAMELESS = "Läden, 1", ""
HELD = {"waiting", "skipped", "all", "allow", "abandoned", "rerun"}
"""Tasks of which the process that fell silent holds runs."""

SECOND = 1_000_000
LONGEST_JITTER = 20 * SECOND

DEFAULT_STORE = """
import os, pathlib, sys
state, folder, name = sys.argv[1:]
os.environ["XDG_STATE_HOME"] = state
os.chdir(folder)
from pulse import PulseMiddleware, Task
words = {"name": name} if name else {}
task = Task(action="work", interval=3600)
app = PulseMiddleware(lambda environ, start: [], start="eager", tasks={"work": task}, **words)
app.scheduler.tasks()
print(*pathlib.Path(state).glob("*/*.db"), sep="\\n", flush=True)
os._exit(0)
"""

NAMES_THEN = {
    "scheduled_for": "slot",
    "partition": "place",
    "attempts": "tries",
    "last_decided": "floor",
    "unfinished": "running",
}
"""What the recording calls a field that was renamed since; all others keep their names."""


SHOWN = ("holder", "host", "pid", "mode", "digest", "lease_us")
"""What is shown of a process."""

NEWER = {"pause", "schedule", "settings", "last_outcome", "last_end", "last_success", "failures"}
"""Fields of a row that the recording does not have."""


def as_recorded(value: object) -> Any:
    """Return a row, a run or a process, or a list of them, in the form of the recording."""
    match msgspec.to_builtins(value):
        case dict() as fields:
            return {NAMES_THEN.get(name, name): as_recorded(part) for name, part in fields.items()}
        case list() | tuple() as values:
            return [as_recorded(one) for one in values]
        case plain:
            return plain


def tasks_of(*parts: str) -> dict[str, Task]:
    """Return the tasks of parts of `tasks.json`, those of later parts instead of earlier ones."""
    settings = json.loads((DATA / "tasks.json").read_text())
    return {name: Task(**words) for part in parts for name, words in settings[part].items()}


def instant(text: str) -> int:
    """Return a time of the day of the recording as microseconds since the Unix epoch."""
    return round(datetime.fromisoformat(f"2026-01-05T{text}+00:00").timestamp()) * SECOND


# The data, put where a store finds it ------------------------------------------------------


def restore_sqlite(request: pytest.FixtureRequest) -> Make:
    """Copy the file; return what makes a store on it."""
    path = request.getfixturevalue("tmp_path") / "pulse.db"
    shutil.copy(DATA / "sqlite.db", path)

    def make(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> SqliteStore:
        return SqliteStore(path, clock, StoreOptions(name=name, keep_runs=keep_runs), opened={})

    return make


def restore_postgres(request: pytest.FixtureRequest) -> Make:
    """Execute the dump; return what makes a store on its schemas."""
    cluster: PostgresCluster = request.getfixturevalue("postgres_cluster")
    cluster.forget_applications()
    request.addfinalizer(cluster.forget_applications)
    cluster.run((DATA / "postgres.sql").read_text())

    def make(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> PostgresStore:
        return PostgresStore(
            cluster.url(),
            clock,
            StoreOptions(name=name, keep_runs=keep_runs),
            server_clock=clock.wall,
            opened={},
        )

    return make


def restore_redis(_request: pytest.FixtureRequest) -> Make:
    """Write the keys; return what makes a store on them."""
    server = empty_redis()
    for line in (DATA / "redis.jsonl").read_text().splitlines():
        assert not server.ask(*restoring(**json.loads(line))).startswith(b"-")

    def make(clock: Clock, *, name: str = "", keep_runs: int = 1_000) -> RedisStore:
        return RedisStore(
            server.url,
            clock,
            StoreOptions(name=name, keep_runs=keep_runs),
            stand_in=clock,
            opened={},
        )

    return make


def restoring(*, key: str, type: str, value: Any) -> list[str]:  # noqa: A002 - as in the file
    """Return the command that gives a key its value."""
    match type:
        case "string":
            return ["SET", key, value]
        case "hash":
            return ["HSET", key, *(word for pair in value.items() for word in pair)]
        case "set":
            return ["SADD", key, *value]
        case "zset":
            return ["ZADD", key, *(word for name, at in value for word in (f"{at:.0f}", name))]
    raise AssertionError(type)


RESTORE = {"sqlite": restore_sqlite, "postgres": restore_postgres, "redis": restore_redis}


class Stored:
    """One store with the stored data, and the processes that join at the end of the recording."""

    def __init__(self, kind: str, make: Make) -> None:
        self._recording = json.loads((DATA / f"{kind}.json").read_text())
        self.fleet = Fleet(make)
        self.fleet.clock.set_wall(datetime.fromtimestamp(self._recording["now"] / 1e6, UTC))

    def until(self, end: int) -> None:
        """Advance the clock to an instant."""
        self.fleet.clock.forward(timedelta(microseconds=end - self.fleet.clock.wall()))

    def join(self, *parts: str, space: str = SPACE, host: str = "alpha") -> Process:
        """Return a process that holds the tasks of these parts, or does not say what it holds."""
        return self.fleet.join(tasks_of(*parts) if parts else None, host=host, space=space)

    def recorded(self, part: str, *, space: str = SPACE) -> list[Record]:
        """Return recorded tasks, runs or processes."""
        return self._recording["applications"][space][part]

    def recorded_run(self, task: str, **fields: object) -> Record:
        """Return the recorded run of a task with these values."""
        (found,) = [
            run
            for run in self.recorded("runs")
            if run["task"] == task and fields.items() <= run.items()
        ]
        return found


@pytest.fixture(
    params=[
        "sqlite",
        pytest.param("postgres", marks=pytest.mark.server),
        pytest.param("redis", marks=pytest.mark.server),
    ]
)
def stored(request: pytest.FixtureRequest) -> Iterator[Stored]:
    """Return a store with the stored data."""
    found = Stored(request.param, RESTORE[request.param](request))
    yield found
    found.fleet.close()


def tasks(process: Process) -> list[Record]:
    """Return the rows, without those of present processes, and without what is newer."""
    rows = as_recorded(process.store.tasks())
    return [
        {name: value for name, value in row.items() if name not in NEWER}
        for row in rows
        if row["place"] != process.member.holder
    ]


def row_of(process: Process, name: str) -> Record:
    """Return the row of a task of the fleet."""
    (row,) = [row for row in tasks(process) if row["name"] == name]
    return row


def runs(process: Process) -> list[Record]:
    """Return all runs."""
    return as_recorded(process.store.runs(limit=1_000))


def run_with(process: Process, found: Record) -> Record:
    """Return a run in its present state."""
    return next(run for run in runs(process) if run["id"] == found["id"])


def claim_all(process: Process) -> dict[str, Claim]:
    """Claim due runs; return the claims by task."""
    return {claim.run.task: claim for claim in process.claim().claims}


def finish_claimed(process: Process) -> list[Record]:
    """Claim and finish due runs; return the runs as they were claimed."""
    claims = process.claim().claims
    assert all(process.finish(claim) for claim in claims)
    return as_recorded([claim.run for claim in claims])


def finish_all(process: Process) -> list[Record]:
    """Claim and finish until nothing is due; return the runs as they were claimed."""
    found: list[Record] = []
    while claimed := finish_claimed(process):
        found += claimed
    return found


def wait_a_lease(stored: Stored, process: Process) -> None:
    """Advance the clock by one lease, so that a silent process loses its claims."""
    stored.fleet.wait(LEASE_S + 10, process)


# What is there -----------------------------------------------------------------------------


@pytest.mark.parametrize("space", [SPACE, NAMELESS], ids=["named", "nameless"])
def test_stored_tasks_runs_and_processes_are_read_unchanged(stored: Stored, space: str) -> None:
    """Each application finds all its data, and only its own."""
    process = stored.join(space=space)
    assert tasks(process) == stored.recorded("tasks", space=space)
    assert runs(process) == stored.recorded("runs", space=space)
    others = [one for one in process.store.members() if one.holder != process.member.holder]
    expected = stored.recorded("members", space=space)
    assert all(one.report is None for one in others)
    assert [{name: each[name] for name in SHOWN} for each in as_recorded(others)] == [
        {name: each[name] for name in SHOWN} for each in expected
    ]


def test_sync_of_the_same_tasks_changes_nothing(stored: Stored) -> None:
    """No cursor moves and nothing is missed; this process gets a row of scope `process`."""
    process = stored.join()
    declared = tasks_of("before", "now")
    added, *others = process.sync(declared)._replace(paused=())
    assert (added, any(others)) == (("per-process",), False)
    assert tasks(process) == stored.recorded("tasks")
    assert runs(process) == stored.recorded("runs")


def test_heartbeat_after_sync_changes_nothing(stored: Stored) -> None:
    """The rows have the definitions of the newest manifest."""
    process = stored.join("before", "now")
    stored.fleet.wait(5, process)
    assert tasks(process) == stored.recorded("tasks")
    assert runs(process) == stored.recorded("runs")


def test_older_definitions_are_superseded(stored: Stored) -> None:
    """The stored manifests decide which definition of a task is newer."""
    process = stored.join()
    synced = process.sync(tasks_of("before"))
    assert (synced.changed, synced.superseded) == ((), ("changed",))
    assert tasks(process) == stored.recorded("tasks")


def test_stored_runtime_tasks_have_equal_definitions(stored: Stored) -> None:
    """Replacing each task by itself changes no row."""
    process = stored.join("before", "now")
    added = tasks_of("added")
    del added["added, removed"]
    for name, task in added.items():
        assert not process.add(name, task, replace=True)
    assert tasks(process) == stored.recorded("tasks")


def test_planned_runs_have_unchanged_ids(stored: Stored, tmp_path: Path) -> None:
    """No fire time runs twice when processes of both commits share the store."""
    fleet = Fleet(
        lambda clock, **options: SqliteStore(tmp_path / "new.db", clock, StoreOptions(**options))
    )
    process = fleet.join(tasks_of("before"), space=SPACE)
    fleet.clock.forward(3_621)
    claims = process.claim().claims
    fleet.close()
    found = {run["id"]: (run["task"], run["slot"]) for run in stored.recorded("runs")}
    for name in ("interval", "called", "changed", "retried", "per-host"):
        (run,) = [claim.run for claim in claims if claim.run.task == name]
        assert found[run.id] == (name, instant("13:00:00"))


@pytest.mark.parametrize(
    ("folder", "name", "file"),
    [("/usr", None, "usr-06be74d2.db"), ("/", "Läden, 1", "l-den-1-0f5065fe.db")],
    ids=["by folder", "by name"],
)
def test_default_store_is_the_same_file(
    run_child: RunChild, tmp_path: Path, folder: str, name: str | None, file: str
) -> None:
    """An application without a configured store finds its data."""
    child = run_child(DEFAULT_STORE, tmp_path, folder, name or "")
    assert child.stdout is not None
    assert child.stdout.read().split("\n")[0] == str(tmp_path / "pulse" / file)


# What is to be run -------------------------------------------------------------------------


def test_stored_pending_runs_are_claimed_and_finished(stored: Stored) -> None:
    """These are a waiting run, a manual run with a body, and a start-up run."""
    process = stored.join("before", "now")
    claimed = finish_all(process)
    assert {(run["task"], run["trigger"], run["attempt"]) for run in claimed} == {
        ("ready", "catch_up", 1),
        ("manual", "manual", 1),
        ("startup", "startup", 1),
    }
    then = {task: stored.recorded_run(task, outcome=None) for task in ("manual", "ready")}
    for run in claimed:
        kept = then.get(run["task"], run)
        assert (run["id"], run["fire_time"], run["body"]) == (
            kept["id"],
            kept["fire_time"],
            kept["body"],
        )
        assert run_with(process, run)["outcome"] == "succeeded"


def test_stored_body_of_a_manual_run_is_unchanged(stored: Stored) -> None:
    """The bodies are compared byte by byte."""
    claim = claim_all(stored.join("before", "now"))["manual"]
    assert claim.run.body == b"\xff\0 of the trigger"


def test_stored_manual_run_of_an_application_without_a_name_runs(stored: Stored) -> None:
    """A process of that application claims it."""
    process = stored.join("nameless", space=NAMELESS)
    assert [run["id"] for run in finish_all(process)] == [
        run["id"] for run in stored.recorded("runs", space=NAMELESS)
    ]


def test_stored_retry_is_claimed_with_its_earlier_attempts(stored: Stored) -> None:
    """It is claimed at the recorded instant, and no earlier."""
    process = stored.join("before", "now")
    then = stored.recorded_run("retried", outcome=None)
    stored.until(then["retry_at"] - 1)
    assert "retried" not in claim_all(process)
    stored.until(then["retry_at"])
    claim = claim_all(process)["retried"]
    run = as_recorded(claim.run)
    assert (run["id"], run["attempt"], run["tries"]) == (then["id"], 3, then["tries"])
    assert process.finish(claim)
    now = run_with(process, then)
    assert (now["outcome"], now["attempt"], now["tries"]) == ("succeeded", 3, then["tries"])


def test_stored_retry_expires_before_the_next_tick(stored: Stored) -> None:
    """The run finishes as its last attempt did."""
    process = stored.join("before", "now")
    then = stored.recorded_run("retried", outcome=None)
    stored.until(instant("14:00:00"))
    assert claim_all(process)["retried"].run.fire_time == instant("14:00:00")
    now = run_with(process, then)
    assert (now["outcome"], now["status"], now["message"]) == ("failed", 503, "busy: ü")


def test_skip_is_folded_into_the_stored_skip(stored: Stored) -> None:
    """This holds while nothing else has followed it."""
    process = stored.join("before", "now")
    then = {task: stored.recorded_run(task, outcome="skipped") for task in ("skipped", "waiting")}
    stored.until(instant("13:30:00"))
    process.claim()
    counts = {task: run_with(process, run)["count"] for task, run in then.items()}
    assert counts == {task: run["count"] + 1 for task, run in then.items()}


def test_stored_run_of_a_silent_process_is_abandoned(stored: Stored) -> None:
    """This happens after a lease; the run that waited for it is claimed."""
    process = stored.join("before", "now")
    held = [run for run in stored.recorded("runs") if run["holder"] and not run["outcome"]]
    assert {run["task"] for run in held} == HELD
    wait_a_lease(stored, process)
    for run in held:
        now = run_with(process, run)
        if run["task"] == "rerun":
            assert (now["outcome"], now["holder"], len(now["tries"])) == (None, "", 1)
        else:
            assert (now["outcome"], bool(now["message"])) == ("abandoned", True)
    claimed = {(run["task"], run["attempt"]): run["id"] for run in finish_all(process)}
    waiting = stored.recorded_run("waiting", outcome=None, holder="")
    assert claimed["waiting", 1] == waiting["id"]
    assert claimed["rerun", 2] == stored.recorded_run("rerun", outcome=None)["id"]


def test_stored_silent_processes_are_removed(stored: Stored) -> None:
    """They are removed after three leases, with their rows of scope `process`."""
    process = stored.join("before", "now")
    stored.fleet.wait(3 * LEASE_S + 20, process)
    assert holders(process.store) == [process.member.holder]
    gone = {member["holder"] for member in stored.recorded("members")}
    assert not gone & {row["place"] for row in tasks(process)}


def test_stored_tasks_run_at_their_recorded_fire_times(stored: Stored) -> None:
    """This holds for every schedule, for configured and run-time tasks."""
    process = stored.join("before", "now")
    finish_all(process)
    wait_a_lease(stored, process)
    finish_all(process)
    due = {
        (row["name"], row["next_fire"])
        for row in stored.recorded("tasks")
        if row["place"] in {"", "alpha"} and not row["paused"]
        if row["next_fire"] is not None and row["next_fire"] > instant("13:21:40")
    }
    assert len(due) > 25
    ran = set()
    for fire_time in sorted({fire_time for _, fire_time in due}):
        stored.until(fire_time + LONGEST_JITTER)
        ran |= {(run["task"], run["slot"]) for run in finish_claimed(process)}
    assert due - ran == set()


def test_stored_task_with_a_past_date_does_not_run_again(stored: Stored) -> None:
    """Its only run is in the history."""
    process = stored.join("before", "now")
    stored.until(instant("20:00:00"))
    assert "at-past" not in claim_all(process)


# What is asked for -------------------------------------------------------------------------


def test_ticks_of_a_stored_pause_that_has_ended_are_missed(stored: Stored) -> None:
    """The pause ended before the recording, and no process has claimed since."""
    process = stored.join("before", "now")
    process.claim()
    (run,) = [run for run in runs(process) if run["task"] == "resuming"]
    assert (run["outcome"], run["count"]) == ("missed", 8)
    assert row_of(process, "resuming")["next_fire"] == instant("13:30:00")


@pytest.mark.parametrize("name", ["paused", "added, paused"])
def test_stored_paused_task_can_be_resumed(stored: Stored, name: str) -> None:
    """Fire times of the pause are missed, and the next one runs."""
    process = stored.join("before", "now")
    process.store.pause(name, None)
    assert name not in claim_all(process)
    (run,) = [run for run in runs(process) if run["task"] == name]
    assert (run["outcome"], run["count"]) == ("missed", 1)
    stored.until(instant("14:00:00"))
    assert claim_all(process)[name].run.fire_time == instant("14:00:00")


@pytest.mark.parametrize("name", ["interval", "added interval"])
def test_stored_task_can_be_paused(stored: Stored, name: str) -> None:
    """Its row is marked, and its fire times do not run."""
    process = stored.join("before", "now")
    process.store.pause(name, Pause())
    assert row_of(process, name)["paused"]
    stored.until(instant("14:00:00"))
    assert name not in claim_all(process)


@pytest.mark.parametrize("name", ["called", "added interval, all"])
def test_stored_task_can_be_triggered(stored: Stored, name: str) -> None:
    """The run is claimed with the definition of the task."""
    process = stored.join("before", "now")
    run = process.store.trigger(name)
    claim = claim_all(process)[name]
    assert run is not None
    assert claim.run.id == run.id
    task = tasks_of("before", "added")[name]
    assert (claim.definition.method, claim.definition.body) == (task.method, task.body.encode())
    assert dict(claim.definition.headers) == task.headers
    assert process.finish(claim)


def test_stored_runtime_task_can_be_removed(stored: Stored) -> None:
    """It has no row any more, and does not fire."""
    process = stored.join("before", "now")
    process.store.remove("added interval")
    assert "added interval" not in {row["name"] for row in tasks(process)}
    stored.until(instant("14:00:00"))
    assert "added interval" not in claim_all(process)


def test_stored_removed_task_that_is_added_again_repeats_no_fire_time(stored: Stored) -> None:
    """The archived row keeps the last decided fire time."""
    process = stored.join("before", "now")
    process.add("added, removed", tasks_of("added")["added, removed"])
    assert "added, removed" not in claim_all(process)
    assert row_of(process, "added, removed")["next_fire"] is None


def test_stored_archived_task_that_is_declared_again_runs(stored: Stored) -> None:
    """It has a row again."""
    process = stored.join()
    synced = process.sync(tasks_of("before", "now", "first"))
    assert sorted(synced.added) == ["archived", "per-process"]
    stored.until(row_of(process, "archived")["next_fire"])
    assert process.finish(claim_all(process)["archived"])
