"""What a storage leaves out of a read of due work is what the shared rules would leave as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pulse.clock import SECOND
from pulse.core.cursor import Cursor
from pulse.core.run import QUEUE_HOLDER, Attempt, Outcome, Run, Trigger
from pulse.core.run_query import RunQuery
from pulse.core.runtime_task import TaskDefaults, cached_loader, make_runtime_task
from pulse.core.task import build_definition
from pulse.store.base import StoreOptions
from pulse.store.process_identity import this_member
from pulse.store.rules import ClockCheck, new_run_id
from pulse.store.shared.backend import EarlyData, Transaction
from pulse.store.shared.changes import ChangeSet, TaskChange
from pulse.store.shared.claiming import plan_due
from pulse.store.shared.manifests import manifest_of
from pulse.store.shared.recovery import RecoveryWindow
from pulse.store.shared.rewinding import find_early_work
from pulse.store.shared.rows import Caller, DueRow, DueSnapshot, PendingRow, row_of_definition
from pulse.store.sql.backend import SqlSession
from pulse.testing.clock import FakeClock
from tests.contracts.suite.store_harness import make_task
from tests.support.redis_servers import empty_redis
from tests.support.stores import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pulse.clock import Instant
    from pulse.core.task import TaskDefinition
    from pulse.store.shared.backend import Backend, Session
    from pulse.store.shared.claiming import PlannedTask
    from pulse.store.shared.rows import TaskRow

T = TypeVar("T")
MEMBER = this_member("inline", "digest", 30 * SECOND)
PARTITIONS = ("", MEMBER.host, MEMBER.holder, "elsewhere")
ALL = 1_000


class Situation(NamedTuple):
    """A row and its runs; instants are seconds from the present."""

    settings: dict[str, object]
    partition: str
    kind: str
    paused: bool
    archived: bool
    resumed: int | None
    next_fire: int | None
    decided: int
    jitter: int
    claimed: int
    pending: list[tuple[str, int]]
    anchor: int


TASK_SETTINGS = st.fixed_dictionaries(
    {
        "interval": st.sampled_from([5, 60]),
        "overlap": st.sampled_from(["skip", "wait", "allow"]),
        "misfire": st.sampled_from(["latest", "all", "skip"]),
    },
    optional={"grace": st.sampled_from([1, 40, 600]), "retries": st.just(2)},
)
SITUATIONS = st.builds(
    Situation,
    settings=TASK_SETTINGS.flatmap(
        lambda found: (
            st.just(found)
            if found["overlap"] != "allow"
            else st.integers(1, 3).map(lambda limit: found | {"max_running": limit})
        )
    ),
    partition=st.sampled_from(PARTITIONS),
    kind=st.sampled_from(["declared", "declared", "runtime", "other definition", "undeclared"]),
    paused=st.sampled_from([False, False, True]),
    archived=st.sampled_from([False, False, False, True]),
    resumed=st.none() | st.integers(-200, 0),
    next_fire=st.none() | st.integers(-300, 60),
    decided=st.integers(-400, 0),
    jitter=st.integers(0, 20),
    claimed=st.integers(0, 3),
    pending=st.lists(
        st.tuples(
            st.sampled_from(["manual", "waiting", "returned", "retry", "rerun"]),
            st.integers(-60, 30),
        ),
        max_size=3,
    ),
    anchor=st.just(-1_000),
)
INSTANTS = st.integers(-90, 90)
AFTER_A_CLOCK_AHEAD = st.builds(
    Situation._replace,
    SITUATIONS,
    anchor=INSTANTS,
    next_fire=st.none() | INSTANTS,
    decided=INSTANTS,
    resumed=st.none() | INSTANTS,
)


class Everything:
    """A session whose reads leave nothing out."""

    def __init__(self, session: Session, keys: Sequence[str]) -> None:
        self._session = session
        self._keys = keys

    def now(self) -> Instant:
        """Return the store's clock."""
        return self._session.now()

    def read_due(self, caller: Caller, _limit: int, *, pending: bool) -> DueSnapshot:
        """Return all rows and pending runs of the caller's partitions, in order."""
        found = self._session.read_tasks(self._keys)
        runs = [
            run
            for run in reversed([*self._session.read_history(RunQuery(limit=ALL))])
            if run.outcome is None and run.partition in caller.partitions
        ]
        claimed = [f"{run.partition}/{run.task}" for run in runs if run.holder]
        active = {
            key: row
            for key, row in found.rows.items()
            if row.archived_at is None and row.partition in caller.partitions
        }
        rows = [
            DueRow(row, found.unfinished[key], claimed.count(key))
            for key, row in active.items()
            if row.due_at is not None and not row.paused
        ]
        rows.sort(key=lambda one: (one.row.due_at or 0, one.row.order))
        waiting = [
            PendingRow(run, active[key], claimed.count(key))
            for run in runs
            if not run.holder and (key := f"{run.partition}/{run.task}") in active
        ]
        waiting.sort(key=lambda one: one.run.retry_at or 0)
        return DueSnapshot(found.now, rows, waiting if pending else (), reserved=True)

    def read_early(self, _caller: Caller, _now: Instant, *, every_row: bool) -> EarlyData:  # noqa: ARG002 - all rows are read
        """Return all rows and pending runs."""
        runs = [*self._session.read_history(RunQuery(limit=ALL))]
        return EarlyData(
            [*self._session.read_tasks(self._keys).rows.values()],
            [run for run in runs if run.outcome is None and not run.holder],
        )


class Storage:
    """A backend, filled for each example."""

    def __init__(self, backend: Backend, clock: FakeClock) -> None:
        self.backend = backend
        self.clock = clock

    def decisions(
        self, situations: Sequence[Situation], decide: Callable[[Session, Caller], T]
    ) -> list[T]:
        """Return what a rule decides, by the storage's read and by one that leaves nothing out."""
        definitions: dict[str, TaskDefinition] = {}
        changes = [
            self._change(f"t{number}", one, definitions) for number, one in enumerate(situations)
        ]
        manifest = manifest_of(definitions)
        caller = Caller(
            MEMBER, "", definitions, cached_loader(), frozenset(PARTITIONS[:3]), manifest.key, ALL
        )

        def fill_and_decide(session: Session) -> list[T]:
            _empty(session)
            session.add_manifest(manifest)
            applied = session.apply(ChangeSet(now=self.clock.wall(), tasks=changes))
            assert all(applied.tasks)
            keys = [change.row.task_key for change in changes]
            everything: Session = Everything(session, keys)  # type: ignore[assignment] # one call
            return [decide(some, caller) for some in (session, everything)]

        return self.backend.run(Transaction.WRITE, fill_and_decide)

    def _change(
        self, name: str, one: Situation, definitions: dict[str, TaskDefinition]
    ) -> TaskChange:
        now = self.clock.wall()
        task = make_task(**one.settings)
        added = make_runtime_task(name, task, TaskDefaults())
        definition = added.definition if one.kind == "runtime" else build_definition(name, task)
        if one.kind == "declared":
            definitions[name] = definition
        if one.kind == "other definition":
            definitions[name] = build_definition(name, make_task(**one.settings, timeout=77))
        next_fire = None if one.next_fire is None else now + one.next_fire * SECOND
        cursor = Cursor(
            now + one.anchor * SECOND, next_fire, now + one.decided * SECOND, one.jitter * SECOND
        )
        row = row_of_definition(
            definition,
            one.partition,
            None,
            cursor=cursor,
            paused=one.paused,
            task_json=added.task_json if one.kind == "runtime" else None,
        )
        row = msgspec.structs.replace(
            row,
            order=int(name[1:]) + 1,
            resumed_at=None if one.resumed is None else now + one.resumed * SECOND,
            archived_at=now if one.archived else None,
        )
        return TaskChange(row, None, [*_runs(row, one, now)])


def _runs(row: TaskRow, one: Situation, now: Instant) -> Iterator[Run]:
    for number in range(one.claimed):
        yield _run(row, now, holder="somebody" if number else QUEUE_HOLDER, claimed_at=now)
    for kind, at in () if one.archived else one.pending:
        due = now + at * SECOND
        if kind == "manual":
            yield _run(row, due, attempt=0, retry_at=due, trigger=Trigger.MANUAL)
        elif kind in {"waiting", "returned"}:
            reason = "the broker did not take it" if kind == "returned" else ""
            yield _run(row, due, attempt=0, retry_at=due, scheduled_for=due, message=reason)
        else:
            outcome = Outcome.FAILED if kind == "retry" else Outcome.ABANDONED
            attempts = (Attempt(1, due - SECOND, 5, outcome, None, ""),)
            yield _run(row, due - SECOND, retry_at=due, scheduled_for=due, attempts=attempts)


def _run(row: TaskRow, fire_time: Instant, **fields: object) -> Run:
    return Run(
        id=new_run_id(),
        task=row.task,
        partition=row.partition,
        fire_time=fire_time,
        **fields,  # type: ignore[arg-type] # fields of a run
    )


def _empty(session: Session) -> None:
    if isinstance(session, SqlSession):
        for table in ("runs", "tasks", "configs"):
            session.connection.execute(f"DELETE FROM @{table}")  # noqa: S608 - a constant
    else:
        empty_redis()


@pytest.fixture(params=SHARED)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Return each kind of storage, open."""
    clock = FakeClock()
    backend = open_backend(request, tmp_path, clock)
    backend.open(MEMBER)
    yield Storage(backend, clock)
    backend.close()


def open_backend(request: pytest.FixtureRequest, folder: Path, clock: FakeClock) -> Backend:
    """Return the backend of each kind of store."""
    if request.param == "sqlite":
        from pulse.store.sqlite.store import SqliteStore

        return SqliteStore(folder / "pulse.db", clock, opened={})._backend
    if request.param == "redis":
        from pulse.store.redis.store import RedisStore

        return RedisStore(empty_redis().url, clock, stand_in=clock, opened={})._backend
    from pulse.store.postgres.store import PostgresStore

    cluster = request.getfixturevalue("postgres_cluster")
    cluster.forget_applications()
    options = StoreOptions()
    return PostgresStore(cluster.url(), clock, options, server_clock=clock.wall, opened={})._backend


PARKED = Situation(
    settings={"interval": 5, "overlap": "skip", "misfire": "all"},
    partition="",
    kind="declared",
    paused=False,
    archived=False,
    resumed=None,
    next_fire=0,
    decided=-1,
    jitter=0,
    claimed=1,
    pending=[],
    anchor=-1_000,
)


@example(situations=[PARKED])
@example(situations=[PARKED._replace(decided=0)])
@example(situations=[PARKED._replace(next_fire=-60, decided=-90, resumed=-20)])
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(situations=st.lists(SITUATIONS, min_size=1, max_size=6))
def test_read_of_due_work_leaves_out_nothing_that_a_rule_would_change(
    storage: Storage, situations: list[Situation]
) -> None:
    """The storage's filters and the rules that follow them decide the same as the rules alone."""
    filtered, complete = storage.decisions(situations, planned)
    assert filtered == complete


@example(situations=[PARKED._replace(kind="runtime", decided=60)], check=ClockCheck.LIKELY)
@example(situations=[PARKED._replace(kind="runtime", resumed=60)], check=ClockCheck.LIKELY)
@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    situations=st.lists(AFTER_A_CLOCK_AHEAD, min_size=1, max_size=6),
    check=st.sampled_from([ClockCheck.LIKELY, ClockCheck.ALL]),
)
def test_read_of_early_data_leaves_out_nothing_that_a_rule_would_change(
    storage: Storage, situations: list[Situation], check: ClockCheck
) -> None:
    """What is to be moved back is the same with and without the storage's filters."""
    now = storage.clock.wall()

    def decide(session: Session, caller: Caller) -> dict[str, object]:
        work = find_early_work(session, caller, now=now, check=check)
        return {
            "rewound": work.rewound,
            "rows": work.rows,
            "pending": {one.was.id: one.run for one in work.pending},
        }

    filtered, complete = storage.decisions(situations, decide)
    assert filtered == complete


def _claimed(planned: PlannedTask) -> int | None:
    """Return how many runs are claimed, where that decides when the row is due next."""
    opened = planned.plan.opened
    return planned.claimed if opened is not None and opened.waits else None


def planned(session: Session, caller: Caller) -> dict[str, object]:
    """Return what a claim is to write, without the order of the rows, and when it looks again."""
    plan = plan_due(session, caller, ALL, recovery=RecoveryWindow(), boot=0)
    return {
        "rows": {one.row.task_key: (one.plan, _claimed(one)) for one in plan.tasks},
        "selected": {one.run.id for one in plan.pending.selected},
        "closed": {(one.run.id, one.run.outcome) for one in plan.pending.closed},
        "failed": {one.task for one in plan.failed_tasks},
        "next_wakeup": plan.next_wakeup,
    }
