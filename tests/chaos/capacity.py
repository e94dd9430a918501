"""When a process could run a tick: it had started, and was not stopped, dead or without a store.

A process has capacity from its line `start` until its line `leave` or `stop`, its death, or the
instant at which it was signalled to end. It has none while it is stopped or blocked by user code,
and no process has any while the store is down or the machine stalls. In a fleet with Celery a
process that has noticed a fault of the broker has none until it has noticed its end, and a run also
needs a worker that can take it (`worker_capacity`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.artifacts import (
    BROKER,
    KILLS,
    LEAVES,
    MACHINE,
    PAUSES,
    SECOND,
    STORE,
    WORKER_LEAVES,
)
from tests.chaos.stretches import common, outside, union, without
from tests.chaos.worker_capacity import NEVER, Hit, WorkerCapacity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.chaos.artifacts import Case, Fault, Line
    from tests.chaos.worker_capacity import Disturbance

    Stretch = tuple[int, int]

PROBED = 6 * SECOND
"""How soon a process notices that the broker is back: it probes every 2 s, for up to 3 s each."""

RECORDS = SECOND // 4
"""How long a process needs after an outage, on a busy machine, to record the end of a run."""

SENDS = 10 * SECOND
"""How long a process keeps a claim while the broker does not answer, before it gives it back."""


class Capacity:
    """Computes when a process could run a tick, and when a process was hit by a fault.

    Attributes:
        workers: the same of Celery workers; None without them.

    """

    def __init__(self, case: Case) -> None:
        self._case = case
        faults = (*_exactly(case), *_own_faults(case))
        self._shared = [
            (one.began, one.ended) for one in faults if one.kind in STORE or one.kind in MACHINE
        ]
        self._pauses = _by_pid(faults, PAUSES)
        self._deaths = _by_pid(faults, KILLS)
        self._leaves = _by_pid(faults, LEAVES)
        up = [
            (pid, stretch)
            for pid, life in _lives(case, self._deaths, self._leaves)
            for stretch in without(life, [*self._shared, *self._pauses.get(pid, [])])
        ]
        self._web: list[Stretch] = [stretch for _, stretch in up]
        waiting = _waiting_for_broker(case, faults, self._pauses)
        self._claiming = self._able = [
            part for pid, stretch in up for part in without(stretch, waiting.get(pid, []))
        ]
        self.workers: WorkerCapacity | None = None
        if case.wait:
            self._add_workers(faults)

    def _add_workers(self, faults: tuple[Fault, ...]) -> None:
        hit = Hit(self._deaths, self._pauses, _by_pid(faults, WORKER_LEAVES))
        self.workers = workers = WorkerCapacity(self._case, faults, hit)
        self._able = common(self._claiming, outside(workers.idle, workers.holes))
        self._claiming = outside(self._claiming, workers.broker_holes)
        disturbed = [(one.began, one.ended) for one in workers.disturbances]
        self._calm = common(union(self._web), outside(workers.there, disturbed))

    def ready(self, instant: int, need: int = SECOND) -> int:
        """Return the first instant from *instant* on from which a run can begin for all of *need*.

        It is `NEVER` when there is none before the end of the run.
        """
        return _first(self._able, instant, need)

    def claims(self, instant: int, need: int = SECOND) -> int:
        """Return the first instant from *instant* on from which one process can claim."""
        return _first(self._claiming, instant, need)

    def is_dark(self, instant: int, need: int = SECOND) -> bool:
        """Return whether no process could claim a tick of *instant* for all of *need*."""
        return self.claims(instant, need) > instant

    def goes_on(self, disturbance: Disturbance) -> int:
        """Return when runs must go on at the latest after a disturbance; `NEVER` for never.

        The bound counts from the instant from which nothing else disturbs for as long, and does not
        end before those of the disturbances before that.
        """
        calm = _first(self._calm, disturbance.ended, disturbance.bound)
        others = () if self.workers is None else self.workers.disturbances
        ends = [one.ended + one.bound for one in others if one.ended <= calm]
        return min(max([calm + disturbance.bound, *ends]), NEVER)

    def is_of_worker(self, pid: int) -> bool:
        """Return whether a process is one of a Celery worker."""
        return self.workers is not None and pid in self.workers.pids

    def hit(self, pid: int, since: int, until: int) -> Stretch | None:
        """Return when a process was killed, or else first paused, between two instants."""
        for hits in (self._deaths, self._pauses):
            found = [one for one in hits.get(pid, ()) if one[1] >= since and one[0] <= until]
            if found:
                return min(found)
        return None

    def was_unanswered(self, claimed_at: int, span: int, *, wait: int = 0) -> bool:
        """Return whether a claim of that instant may have waited for so long.

        A store with a clock of its own gives it the instant at which it went on. A Celery worker
        takes the run up to *wait* later, which keeps the instant of the claim.
        """
        until = claimed_at + SECOND + wait
        return any(
            began <= until and ended >= claimed_at - SECOND and ended - began >= span
            for began, ended in self._shared
        )

    def found_out(self, since: int, until: int) -> int:
        """Return when all losses between two instants must be known; 0 for no loss."""
        hits = [
            one
            for kind in (self._deaths, self._pauses)
            for every in kind.values()
            for one in every
            if one[1] >= since and one[0] <= until
        ]
        return max((self._found_out(one) for one in hits), default=0)

    def closed(self, pid: int, since: int, end: int | None) -> int:
        """Return when the store must at the latest have known that a run was over.

        Args:
            pid: whose run it was.
            since: when it was claimed or began.
            end: when the app ended it; None when it did not.

        """
        recorded = NEVER if end is None else self._undisturbed(pid, end)
        hit = self.hit(pid, since, recorded + SECOND)
        if hit is None:
            return recorded
        is_long = hit[1] - hit[0] >= self._case.lease + 2 * SECOND
        if end is None or hit in self._deaths.get(pid, ()):
            return self._found_out(hit)
        if hit[0] > end:  # it had ended, and may not have been recorded yet
            return self._found_out(hit) if is_long else max(recorded, hit[1])
        return min(recorded, self._found_out(hit)) if is_long else recorded

    def unsent(self, pid: int, since: int) -> int:
        """Return when the store must at the latest have known that an unsent claim was lost.

        Its process may have survived a pause before, and may have waited for the broker meanwhile.
        """
        return self.hit_while_sending(pid, since) or self.closed(pid, since, None)

    def found_lost(self, pid: int, since: int, until: int) -> int:
        """Return when others have found out what hit a process first in that time; 0 for no hit."""
        hit = self.hit(pid, since, until)
        return 0 if hit is None else self._found_out(hit)

    def hit_while_sending(self, pid: int, since: int) -> int:
        """Return when other processes have found out what hit a process with an unsent claim.

        It is 0 for a process that nothing has hit while it may have had the claim.
        """
        hits = [
            one
            for kind in (self._deaths, self._pauses)
            for one in kind.get(pid, ())
            if one[1] >= since and one[0] <= since + SENDS
        ]
        return max(map(self._found_out, hits), default=0)

    def _found_out(self, hit: Stretch) -> int:
        """Return when other processes have observed an unrenewed lease for its whole duration."""
        seen = _first(self._web, hit[0], self._case.lease + SECOND)
        return min(seen + self._case.lease, NEVER)

    def waited(self, claimed_at: int) -> int:
        """Return when a run that no worker takes must be recorded as missed at the latest."""
        return claimed_at + self._case.wait + 2 * self._case.lease

    def _undisturbed(self, pid: int, instant: int) -> int:
        """Return the first instant from then on at which that process could begin to record."""
        disturbances = sorted([*self._shared, *self._pauses.get(pid, ())])
        needs = 0  # what ends while nothing disturbs is recorded at once
        for began, ended in disturbances:
            if began <= instant + needs and instant < ended:
                instant, needs = ended, RECORDS
        return instant


def _exactly(case: Case) -> Iterable[Fault]:
    """Yield the faults; a fault of a process on itself starts when its line says."""
    said = [line for line in case.lines if line.what == "victim" and line.point in PAUSES]
    for fault in case.faults:
        own = [line.wall for line in said if line.pid in fault.pids and fault.began <= line.wall]
        exact = fault.kind in PAUSES and own and min(own) <= fault.ended
        yield fault._replace(began=min(own)) if exact else fault


def _own_faults(case: Case) -> Iterable[Fault]:
    """Yield the faults that the processes recorded themselves: their deaths and blocks.

    User code that sleeps holds a process only if its threads are greenlets: a process that writes
    lines meanwhile is not blocked.
    """
    from tests.chaos.artifacts import Fault

    blocked: dict[int, int] = {}
    last: dict[int, int] = {}
    for line in case.lines:
        last[line.pid] = max(line.wall, last.get(line.pid, 0))
    for line in case.lines:
        if line.what == "victim" and line.point in KILLS:
            # Other threads of the process may write lines until it is dead.
            yield Fault(line.point, line.wall, last[line.pid], (line.pid,))
        elif line.what == "block":
            blocked[line.pid] = line.wall
        elif line.what == "unblock":
            if line.pid in blocked:
                yield Fault("block", blocked.pop(line.pid), line.wall, (line.pid,))
        else:
            blocked.pop(line.pid, None)
    for pid, began in blocked.items():
        yield Fault("block", began, case.ended, (pid,))


def _by_pid(faults: Iterable[Fault], kinds: frozenset[str]) -> dict[int, list[Stretch]]:
    found: dict[int, list[Stretch]] = {}
    for fault in faults:
        if fault.kind in kinds:
            for pid in fault.pids:
                found.setdefault(pid, []).append((fault.began, fault.ended))
    return found


def _waiting_for_broker(
    case: Case, faults: Iterable[Fault], pauses: Mapping[int, list[Stretch]]
) -> dict[int, list[Stretch]]:
    """Return for each process when it may have sent nothing because of the broker.

    A process notices a fault by a claim of its own, and has noticed its end at the latest when a
    run begins that it claimed after that.
    """
    claims: dict[int, list[Line]] = {}
    for line in case.lines:
        if line.what == "claim":
            claims.setdefault(line.pid, []).append(line)
    begins = {(one.run, one.attempt): one.wall for one in case.lines if one.what == "begin"}
    away = sorted((one.began, one.ended) for one in faults if one.kind in BROKER)
    found: dict[int, list[Stretch]] = {}
    for pid, own in claims.items():
        for began, ended in away:
            waits = pid in found and found[pid][-1][1] > began
            if waits or any(began - SECOND <= one.wall <= ended for one in own):
                sent = [
                    begins.get((one.run, one.attempt), NEVER) for one in own if one.wall > ended
                ]
                until = _passed(ended, PROBED, pauses.get(pid, ()))
                found.setdefault(pid, []).append((began, min([until, *sent])))
    return found


def _passed(since: int, span: int, pauses: Iterable[Stretch]) -> int:
    """Return the instant at which *span* has passed outside the pauses."""
    until = since + span
    for began, ended in sorted(pauses):
        if began < until and ended > since:
            until += ended - max(began, since)
    return until


def _lives(
    case: Case, deaths: dict[int, list[Stretch]], leaves: dict[int, list[Stretch]]
) -> list[tuple[int, Stretch]]:
    """Return for each process how long it accepted new work."""
    stops: dict[int, list[int]] = {}
    for line in case.lines:
        if line.what in {"leave", "stop"}:
            stops.setdefault(line.pid, []).append(line.wall)
    lives: list[tuple[int, Stretch]] = []
    for line in case.lines:
        if line.what == "start":
            # A pid may have had another process before, in a long run.
            ends = [one for one in stops.get(line.pid, ()) if one >= line.wall]
            for hits in (deaths, leaves):
                ends += [began for began, ended in hits.get(line.pid, ()) if ended >= line.wall]
            lives.append((line.pid, (line.wall, min([case.ended, *ends]))))
    return lives


def _first(stretches: Iterable[Stretch], instant: int, need: int) -> int:
    """Return the first instant from *instant* on which *need* of a stretch follows."""
    starts = (
        max(instant, began) for began, ended in stretches if ended - need >= max(instant, began)
    )
    return min(starts, default=NEVER)
