"""Redis: overlaps of sessions that SQL runs one at a time, and how many scripts a call runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse.clock import SECOND
from pulse.core.run import RECORDED
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.core.task import build_definition
from pulse.errors import UnknownTaskError
from pulse.store.base import PostedRun
from pulse.store.process_identity import this_member
from pulse.store.redis.backend import RedisSession
from pulse.store.redis.client import RedisClient
from pulse.store.redis.store import RedisStore
from pulse.store.steering import Pause
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import EVERY, make_task, succeed
from tests.support.redis_servers import empty_redis

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pulse.core.task import Task
    from pulse.store.shared.changes import Applied, ChangeSet

    Join = Callable[..., RedisStore]

pytestmark = pytest.mark.server

HOST_TASK = {"work": make_task(scope="host")}


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


@pytest.fixture
def join(clock: FakeClock) -> Iterator[Join]:
    """Return a function that opens a store as a process of a host, which declares tasks."""
    url = empty_redis().url
    stores: list[RedisStore] = []

    def join(host: str = "web1", **tasks: Task) -> RedisStore:
        store = RedisStore(url, clock, stand_in=clock, opened={})
        stores.append(store)
        member = this_member("inline", "digest", 30 * SECOND)
        holder = f"{host}:{len(stores)}:0"
        store.open(msgspec.structs.replace(member, host=host, machine=host, holder=holder))
        sync(store, tasks)
        return store

    yield join
    for store in stores:
        store.close()


def sync(store: RedisStore, tasks: Mapping[str, Task]) -> None:
    """Declare these tasks."""
    store.sync({name: build_definition(name, task) for name, task in tasks.items()})


@pytest.fixture
def before_next_write(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Return a function that lets something happen before the next write of rows."""
    waiting: list[Callable[[], object]] = []
    apply = RedisSession.apply

    def overtaken(session: RedisSession, changes: ChangeSet) -> Applied:
        if changes.tasks and waiting:
            waiting.pop()()
        return apply(session, changes)

    monkeypatch.setattr(RedisSession, "apply", overtaken)
    return waiting.append


@pytest.mark.parametrize("paused", [True, False], ids=["pause", "resume"])
@pytest.mark.parametrize("returns", [False, True], ids=["new row", "archived row"])
def test_row_that_is_added_beside_a_pause_follows_it(
    join: Join,
    before_next_write: Callable[[Callable[[], object]], None],
    clock: FakeClock,
    *,
    paused: bool,
    returns: bool,
) -> None:
    """The row of another host is planned before the pause and written after it."""
    first = join(**HOST_TASK)
    second = join("web2", **(HOST_TASK if returns else {}))
    if returns:
        sync(second, {})
        for _ in range(20):
            clock.forward(5)
            for one in (first, second):
                one.heartbeat()
    assert [row.partition for row in first.tasks()] == ["web1"]
    first.pause("work", Pause() if not paused else None)
    before_next_write(lambda: first.pause("work", Pause() if paused else None))
    sync(second, HOST_TASK)
    assert [row.paused for row in first.tasks()] == [paused, paused]


@pytest.mark.parametrize("paused", [True, False], ids=["pause", "resume"])
def test_pause_and_resume_that_overlap_leave_rows_that_agree(
    join: Join, before_next_write: Callable[[Callable[[], object]], None], *, paused: bool
) -> None:
    """A row that is added later agrees with them too."""
    store = join(**HOST_TASK)
    store.pause("work", Pause() if not paused else None)
    before_next_write(lambda: store.pause("work", Pause() if not paused else None))
    store.pause("work", Pause() if paused else None)
    join("web2", **HOST_TASK)
    assert [row.paused for row in store.tasks()] == [paused, paused]


def test_run_time_task_that_is_added_beside_a_pause_of_its_name_follows_it(
    join: Join, before_next_write: Callable[[Callable[[], object]], None]
) -> None:
    """A task that is replaced after its removal is planned before the pause ends."""
    store = join()
    added = make_runtime_task("work", make_task(), TaskDefaults())
    store.add(added)
    store.pause("work", Pause())
    before_next_write(lambda: store.pause("work", None))
    store.remove("work")
    store.add(added)
    assert [row.paused for row in store.tasks()] == [False]


def test_pause_beside_a_removal_does_not_outlive_the_task(
    join: Join, before_next_write: Callable[[Callable[[], object]], None]
) -> None:
    """The pause is refused; a task that is added under the name later is not paused."""
    store = join()
    added = make_runtime_task("work", make_task(), TaskDefaults())
    store.add(added)
    before_next_write(lambda: store.remove("work"))
    with pytest.raises(UnknownTaskError):
        store.pause("work", Pause())
    store.add(added)
    assert [row.paused for row in store.tasks()] == [False]


def test_removal_beside_a_pause_ends_the_pause(
    join: Join, before_next_write: Callable[[Callable[[], object]], None]
) -> None:
    """The row was paused between the read and the write of the removal."""
    store = join()
    added = make_runtime_task("work", make_task(), TaskDefaults())
    store.add(added)
    before_next_write(lambda: store.pause("work", Pause()))
    store.remove("work")
    store.add(added)
    assert [row.paused for row in store.tasks()] == [False]


# Costs ------------------------------------------------------------------------------------


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the scripts that have run; a test clears it."""
    names: list[str] = []
    run = RedisClient.run

    def record(client: RedisClient, name: str, *rest: object, **request: object) -> object:
        names.append(name)
        return run(client, name, *rest, **request)  # type: ignore[arg-type] # passed on

    monkeypatch.setattr(RedisClient, "run", record)
    return names


SIZES = [(1, 1), (500, 1), (501, 2), (1_200, 3)]


def tasks(number: int, **settings: object) -> dict[str, Task]:
    """Return so many tasks."""
    return {f"t{n}": make_task(**settings) for n in range(number)}


def claim_all(store: RedisStore, number: int) -> Sequence[object]:
    """Return the claims of so many ticks, in parts of 500."""
    return [claim for _ in range(0, number, 500) for claim in store.claim_due(500).claims]


@pytest.mark.parametrize(("number", "calls"), SIZES)
def test_sync_is_one_script_for_each_500_rows(
    join: Join, applied: list[str], number: int, calls: int
) -> None:
    """The rows are read and written in parts of 500."""
    store = join()
    applied.clear()
    sync(store, tasks(number))
    assert (applied.count("read_tasks"), applied.count("apply")) == (calls, calls)


@pytest.mark.parametrize(("number", "calls"), SIZES)
def test_finish_is_one_script_for_each_500_runs(
    join: Join, applied: list[str], clock: FakeClock, number: int, calls: int
) -> None:
    """Runs that are not tried again are recorded without a read."""
    store = join(**tasks(number))
    clock.forward(EVERY)
    claims = claim_all(store, number)
    applied.clear()
    results = store.finish([succeed(claim) for claim in claims])  # type: ignore[arg-type] # claims
    assert (results, applied) == ([RECORDED] * number, ["apply"] * calls)


@pytest.mark.parametrize(("number", "calls"), SIZES)
def test_post_is_one_script_for_each_500_runs(
    join: Join, applied: list[str], clock: FakeClock, number: int, calls: int
) -> None:
    """As a finish; a take is one more for each run."""
    store = join(**tasks(number))
    clock.forward(EVERY)
    claims = claim_all(store, number)
    applied.clear()
    posted = store.post([PostedRun(claim, SECOND, "pulse") for claim in claims])  # type: ignore[arg-type] # claims
    assert (posted, applied) == ([True] * number, ["apply"] * calls)


def test_take_is_one_script(join: Join, applied: list[str], clock: FakeClock) -> None:
    """After the read of the run."""
    store = join(**tasks(1))
    clock.forward(EVERY)
    (claim,) = store.claim_due(1).claims
    applied.clear()
    run = claim.run
    assert store.take(run.id, 1, poster=run.holder, definition=claim.definition) is not None
    assert applied == ["apply"]


@pytest.mark.parametrize(("number", "calls"), SIZES)
def test_abandonment_is_one_script_for_each_500_runs(
    join: Join, applied: list[str], clock: FakeClock, number: int, calls: int
) -> None:
    """Runs whose lease ended are written in parts of 500."""
    holder = join(**tasks(number))
    other = join("web2", **tasks(number))
    for _ in range(8):
        other.heartbeat()
        clock.forward(5)
    assert len(claim_all(holder, number)) == number
    abandoned = 0
    for _ in range(8):
        clock.forward(5)
        applied.clear()
        abandoned = len(other.heartbeat().abandoned)
        if abandoned:
            break
    assert (abandoned, applied.count("apply")) == (number, calls)
