"""The Redis server: layouts, clocks, scripts, and the death of other processes."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.core.policies import Scope
from pulse.core.run import Outcome
from pulse.core.runtime_task import TaskDefaults, load_runtime_task, make_runtime_task
from pulse.core.task import build_definition
from pulse.errors import (
    MissingExtraError,
    StoreInUseError,
    StoreSchemaError,
    StoreUnavailableError,
    shown_url,
)
from pulse.store.base import StoreOptions
from pulse.store.process_identity import this_member
from pulse.store.redis.backend import RESERVE_FOR, RedisBackend, prefix_of
from pulse.store.redis.client import RedisClient
from pulse.store.redis.store import RedisStore
from pulse.store.shared.backend import Transaction
from pulse.store.shared.claiming import plan_due
from pulse.store.shared.manifests import manifest_of
from pulse.store.shared.recovery import RecoveryWindow
from pulse.store.shared.rows import Caller
from pulse.store.steering import Pause
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, fail, make_task, succeed
from tests.support.children import HOLD_ONE, RACE, hear, say_go
from tests.support.redis_servers import RedisServer, empty_redis

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pulse.store.base import Member
    from tests.support.children import RunChild

pytestmark = pytest.mark.server

TASKS = {"work": build_definition("work", make_task())}
OPEN = """
import sys
from pulse.clock import SystemClock
from pulse.core.task import build_definition
from pulse.store.process_identity import this_member
from pulse.store.redis.backend import RESERVE_FOR
from pulse.store.redis.store import RedisStore
from pulse.store.shared.backend import Transaction
from pulse.store.shared.rows import Caller
from pulse.store.shared.claiming import plan_due
from tests.contracts.suite.store_harness import make_task

store = RedisStore(sys.argv[1], SystemClock())
sys.stdin.readline()
store.open(this_member("inline", "digest", 30_000_000))
"""


@pytest.fixture
def server() -> RedisServer:
    """Return the shared server, empty."""
    return empty_redis()


@pytest.fixture
def member() -> Member:
    """Return this process."""
    return this_member("inline", "digest", 30 * SECOND)


@pytest.fixture
def store(server: RedisServer, member: Member) -> Iterator[RedisStore]:
    """Return an open store with one task, on the server's own clock."""
    made = RedisStore(server.url, SystemClock())
    made.open(member)
    made.sync(TASKS)
    yield made
    made.close()


def test_redis_store_runs_ticks_once_per_fleet() -> None:
    """Processes of all hosts share the store."""
    assert RedisStore.reach is Scope.FLEET


def test_building_a_sqlite_store_creates_no_file() -> None:
    """An unreachable server is no error yet."""
    assert RedisStore("redis://127.0.0.1:1/0", SystemClock()).name == "redis://127.0.0.1:1/0"


def test_password_of_a_redis_url_is_not_shown() -> None:
    """Log lines and errors contain the URL without it."""
    assert shown_url("redis://user:s3cret@db:6379/0") == "redis://user:***@db:6379/0"


def test_error_names_the_missing_extra_of_redis(
    monkeypatch: pytest.MonkeyPatch, member: Member
) -> None:
    """The error states what to install."""
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"pulse\[redis\]"):
        RedisStore("redis://127.0.0.1:1/0", SystemClock()).open(member)


def test_redis_driver_is_imported_when_the_store_is_opened() -> None:
    """The import comes after any fork and any patching."""
    program = (
        "import sys; from pulse.clock import SystemClock;"
        " from pulse.store.redis.store import RedisStore;"
        " RedisStore('redis://h', SystemClock()); print('redis' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b"False"


@pytest.mark.usefixtures("store")
def test_second_store_with_the_same_name_is_refused_in_one_process(
    server: RedisServer, member: Member
) -> None:
    """The error asks for another name."""
    with pytest.raises(StoreInUseError, match=r"already without a name; .* pulse\.config\.name"):
        RedisStore(server.url, SystemClock()).open(member)


@pytest.mark.usefixtures("store")
def test_all_keys_of_an_application_have_one_hash_tag(server: RedisServer) -> None:
    """They are on one node of a cluster."""
    told = server.ask("KEYS", "*").decode().split("\r\n")
    keys = [word for word in told if word and word[0] not in "*$"]
    assert keys
    assert all(key.startswith(prefix_of("")) for key in keys)


@pytest.mark.parametrize(("version", "age"), [("99", "newer"), ("0", "older")])
def test_another_sqlite_layout_is_refused(
    server: RedisServer, member: Member, version: str, age: str
) -> None:
    """The error states both versions, and what to do."""
    server.ask("SET", prefix_of("") + "layout", version)
    with pytest.raises(
        StoreSchemaError, match=f"expected layout version 1, got {version}.*{age} release"
    ):
        RedisStore(server.url, SystemClock()).open(member)


def test_redis_server_clock_decides_what_is_due(server: RedisServer, member: Member) -> None:
    """A process whose own clock is months off plans and claims like any other."""
    store = RedisStore(server.url, FakeClock())
    store.open(member)
    store.sync({"work": build_definition("work", make_task(run_at_start=True))})
    (claim,) = store.claim_due(1).claims
    store.close()
    assert abs((claim.run.claimed_at or 0) - SystemClock().wall()) < 60 * SECOND


def test_scripts_are_sent_again_after_a_script_flush(
    server: RedisServer, store: RedisStore
) -> None:
    """A restarted server has no scripts."""
    server.ask("SCRIPT", "FLUSH")
    assert [row.name for row in store.tasks()] == ["work"]
    assert store.claim_due(1).next_wakeup is not None


def test_deleted_rows_are_created_again_and_reported_once(
    server: RedisServer, store: RedisStore
) -> None:
    """The next heartbeat treats a server that lost its data as new."""
    server.ask("FLUSHALL")
    with pytest.raises(StoreUnavailableError, match="came back without its data"):
        store.heartbeat()
    store.heartbeat()
    assert [row.name for row in store.tasks()] == ["work"]


def test_runs_are_indexed_again_after_keys_were_lost(
    server: RedisServer, store: RedisStore
) -> None:
    """A pending run is claimed, and the end of a claimed run is recorded and counted."""
    store.trigger("work")
    (claim,) = store.claim_due(1).claims
    lost = [prefix_of("") + name for name in ("open", "unheld", "unheld:", "leases", "history")]
    server.ask("DEL", *lost)
    with pytest.raises(StoreUnavailableError, match="keys were lost"):
        store.heartbeat()
    assert (store.renew([claim]), store.tasks()[0].unfinished) == ([True], 1)
    store.finish([succeed(claim)])
    store.trigger("work")
    assert [one.run.trigger for one in store.claim_due(1).claims] == [claim.run.trigger]
    assert store.tasks()[0].unfinished == 1


def test_pending_run_is_claimed_after_its_index_was_lost(
    server: RedisServer, store: RedisStore
) -> None:
    """The run itself was not lost."""
    run = store.trigger("work")
    server.ask("DEL", *(prefix_of("") + name for name in ("unheld", "unheld:")))
    with pytest.raises(StoreUnavailableError, match="keys were lost"):
        store.heartbeat()
    assert [one.run.id for one in store.claim_due(1).claims] == [run and run.id]


@pytest.mark.parametrize("index", ["unheld:", "leases"])
def test_loss_of_an_index_of_runs_alone_is_noticed(
    server: RedisServer, store: RedisStore, index: str
) -> None:
    """Of a claimed run in `leases`, of a pending one in `unheld:`; both are indexed again."""
    store.trigger("work")
    if index == "leases":
        store.claim_due(1)
    store.heartbeat()
    server.ask("DEL", prefix_of("") + index)
    with pytest.raises(StoreUnavailableError, match=f"keys were lost: .*:{index};"):
        beat(store, 20)
    assert server.ask("EXISTS", prefix_of("") + index) == b":1\r\n"


def test_index_that_has_lost_its_last_run_is_not_missed(store: RedisStore) -> None:
    """All runs have finished."""
    for _ in range(3):
        store.trigger("work")
        store.heartbeat()
        (claim,) = store.claim_due(1).claims
        store.heartbeat()
        store.finish([succeed(claim)])
        beat(store, 20)


def beat(store: RedisStore, times: int) -> None:
    """Send some heartbeats."""
    for _ in range(times):
        store.heartbeat()


def test_pause_that_an_older_release_has_ended_is_over(server: RedisServer, member: Member) -> None:
    """It resumes a task by the set alone: the record that is left does no harm."""
    clock = FakeClock()
    store = RedisStore(server.url, clock, stand_in=clock)
    store.open(member)
    store.sync(TASKS)
    store.pause("work", Pause(until=clock.wall() + 5 * SECOND, by="anna"))
    server.ask("SREM", prefix_of("") + "paused", "work")
    clock.forward(10)
    assert store.heartbeat().resumed == []
    assert store.look(1).claimed is not None
    store.pause("work", Pause())
    (state,) = store.tasks()
    store.close()
    assert state.paused
    assert state.pause == Pause(clock.wall())


@pytest.mark.parametrize("key", ["pauses", "audit", "audits"])
def test_key_of_pauses_or_of_the_audit_trail_that_was_overwritten_is_moved(
    server: RedisServer, store: RedisStore, key: str
) -> None:
    """Tasks go on, and the next verbs are recorded."""
    store.pause("work", Pause(by="anna"))
    server.ask("DEL", prefix_of("") + key)
    server.ask("LPUSH", prefix_of("") + key, "garbage")
    with pytest.raises(StoreUnavailableError, match=f"expected data of pulse in .*:{key};"):
        touch(store, key)
    with contextlib.suppress(StoreUnavailableError):
        store.heartbeat()  # reports to the loop what a call of the application has met
    store.heartbeat()
    store.pause("work", None, by="otto")
    assert store.audit()[0].by == "otto"
    assert server.ask("EXISTS", prefix_of("") + f"corrupt:{key}") == b":1\r\n"


def touch(store: RedisStore, key: str) -> None:
    """Make the call that reads a key."""
    if key == "audits":
        store.pause("work", Pause())
    elif key == "audit":
        store.audit()
    else:
        store.heartbeat()


def test_numbers_of_the_audit_trail_go_on_after_their_counter_was_lost(
    server: RedisServer, store: RedisStore
) -> None:
    """A repair makes the counter again."""
    for name in ("anna", "otto"):
        store.pause("work", Pause(by=name))
    server.ask("DEL", *(prefix_of("") + name for name in ("audits", "open")))
    with pytest.raises(StoreUnavailableError, match="keys were lost"):
        store.heartbeat()
    store.pause("work", None, by="ida")
    assert [one.by for one in store.audit()] == ["ida", "otto", "anna"]


def test_record_of_another_form_is_not_moved(server: RedisServer, store: RedisStore) -> None:
    """A newer release may have written it."""
    server.ask("HSET", prefix_of("") + "runs", "x", '[null,"",0,"x"]')
    server.ask("SET", prefix_of("") + "open", "garbage")
    with pytest.raises(StoreUnavailableError, match=r"expected data of pulse in .*:open;"):
        store.claim_due(1)
    assert server.ask("HEXISTS", prefix_of("") + "runs", "x") == b":1\r\n"


@contextlib.contextmanager
def dying() -> Iterator[None]:
    """Let this process reach the server until its first write, and no longer."""
    run = RedisClient.run
    written: list[str] = []

    def until_then(server: RedisClient, name: str, *words: Any, **request: Any) -> Any:
        if "apply" in written:
            raise StoreUnavailableError("dead")
        written.append(name)
        return run(server, name, *words, **request)

    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(StoreUnavailableError):
        patch.setattr(RedisClient, "run", until_then)
        yield


@pytest.fixture
def dated(server: RedisServer, member: Member) -> Iterator[tuple[RedisStore, FakeClock]]:
    """Return an open store on a fake clock, with a run-time task whose run is pending for long."""
    clock = FakeClock()
    made = RedisStore(server.url, clock, stand_in=clock)
    made.open(member)
    made.sync({})
    slow = make_task(interval=3_600, retries=3, retry_min_backoff=3_000, retry_max_backoff=3_000)
    made.add(make_runtime_task("slow", slow, TaskDefaults()))
    clock.forward(3_600)
    made.finish([fail(claim) for claim in made.claim_due(1).claims])
    yield made, clock
    made.close()


def test_replacement_moves_row_and_retry_in_one_step(
    dated: tuple[RedisStore, FakeClock],
) -> None:
    """A process that dies right after the write leaves no retry later than the next tick."""
    store, clock = dated
    with dying():
        store.add(
            make_runtime_task("slow", make_task(interval=60, retries=3), TaskDefaults()),
            replace=True,
        )
    (row,), (run,) = store.tasks(), store.runs()
    assert row.next_fire == clock.wall() + 60 * SECOND
    assert run.retry_at == row.next_fire


def test_removal_archives_row_and_pending_runs_in_one_step(
    dated: tuple[RedisStore, FakeClock],
) -> None:
    """A process that dies right after the write leaves no pending run."""
    store, _ = dated
    with dying():
        store.remove("slow")
    assert store.tasks() == []
    assert [run.outcome for run in store.runs()] == [Outcome.ABANDONED]


def test_reservation_of_a_stopped_process_ends_after_half_a_second(
    server: RedisServer, member: Member
) -> None:
    """Until then other processes leave the row alone; then they plan it."""
    clock = FakeClock()
    one, other = (RedisStore(server.url, clock, stand_in=clock, opened={}) for _ in range(2))
    one.open(member)
    one.sync(TASKS)
    other.open(this_member("inline", "digest", 30 * SECOND))
    other.sync(TASKS)
    clock.forward(EVERY)
    look_and_stop(server, member, clock)
    early = other.claim_due(10)
    clock.forward((RESERVE_FOR + 1) / SECOND)
    late = other.claim_due(10)
    one.close()
    other.close()
    assert (len(early.claims), early.next_wakeup) == (0, early.now)
    assert [claim.run.task for claim in late.claims] == ["work"]


def look_and_stop(server: RedisServer, member: Member, clock: FakeClock) -> None:
    """Reserve due rows, as a process does that is stopped before it writes."""
    backend = RedisBackend(server.url, space="", patience_us=SECOND, stand_in=clock)
    backend.open(member)
    key, partitions = manifest_of(TASKS).key, frozenset({""})
    caller = Caller(member, "", TASKS, load_runtime_task, partitions, key, 1_000)
    rule = partial(plan_due, caller=caller, limit=10, recovery=RecoveryWindow(), boot=0)
    plan = backend.run(Transaction.READ, rule)
    assert plan.is_work()
    backend.close()


def test_racing_processes_claim_each_tick_once(server: RedisServer, run_child: RunChild) -> None:
    """Four real processes, two hundred ticks, no tick twice and none left."""
    children = [run_child(OPEN + RACE, server.url) for _ in range(4)]
    for child in children:
        say_go(child)
    assert [hear(child) for child in children] == ["ready"] * 4
    due = SystemClock().wall() + SECOND
    while SystemClock().wall() < due:
        pass
    ids = [run for child in children for run in child.communicate("go\n")[0].split()]
    assert len(ids) == len(set(ids))
    assert len(ids) >= 200


@pytest.mark.parametrize(
    ("word", "outcome"), [("record", Outcome.ABANDONED), ("rerun", None)], ids=str
)
def test_dead_holder_of_this_host_is_found_at_once(
    server: RedisServer,
    member: Member,
    run_child: RunChild,
    word: str,
    outcome: Outcome | None,
) -> None:
    """Its pid shows that it is gone, so no process waits for the lease."""
    child = run_child(OPEN + HOLD_ONE, server.url, word)
    say_go(child)
    run_id = hear(child)
    store = RedisStore(server.url, SystemClock())
    store.open(member)
    store.sync({"work": build_definition("work", make_task(run_at_start=True, on_abandoned=word))})
    before = store.heartbeat().abandoned
    child.send_signal(signal.SIGKILL)
    child.wait()
    after = store.heartbeat().abandoned
    members = store.members()
    store.close()
    assert not before
    assert [(run.id, run.outcome) for run in after] == [(run_id, outcome)]
    assert [one.holder for one in members] == [member.holder]


def test_history_older_than_keep_for_is_deleted(server: RedisServer, member: Member) -> None:
    """Archived rows are deleted as well."""
    clock = FakeClock()
    store = RedisStore(server.url, clock, StoreOptions(keep_for_us=3_600 * SECOND), stand_in=clock)
    store.open(member)
    store.sync(TASKS)
    clock.forward(EVERY)
    claims = store.claim_due(10).claims
    store.finish([succeed(claim) for claim in claims])
    clock.forward(3_000)
    store.heartbeat()
    early = store.runs()
    clock.forward(1_000)
    store.heartbeat()
    late = store.runs()
    store.close()
    assert ([run.outcome for run in early], late) == ([Outcome.SUCCEEDED], [])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, ""),
        ({"appendonly": "no"}, "keeps no append-only file"),
        ({"appendfsync": "everysec"}, "appendfsync everysec"),
        ({"maxmemory_policy": "allkeys-lru"}, "maxmemory-policy allkeys-lru"),
        ({"rename_command": "CONFIG hidden"}, ""),
        ({"rename_command": "CONFIG hidden", "appendonly": "no"}, "keeps no append-only file"),
    ],
    ids=str,
)
def test_server_that_may_lose_claims_causes_a_notice(
    tmp_path: Path, member: Member, settings: dict[str, str], words: str
) -> None:
    """The notice states what to set; it is empty if the settings are hidden."""
    with RedisServer(tmp_path, **settings) as server:
        store = RedisStore(server.url, SystemClock())
        store.open(member)
        notice = store.notice
        store.close()
    assert bool(notice) == bool(words)
    assert words in notice
