"""When a process could run a tick: it had started, and was not stopped, dead or without a store.

A process has capacity from its line `start` until its line `leave` or `stop`, its death, or the
instant at which it was signalled to end. It has none while it is stopped or blocked by user code,
and no process has any while the store is down or the machine stalls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.artifacts import KILLS, LEAVES, MACHINE, PAUSES, SECOND, STORE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.chaos.artifacts import Case, Fault

    Stretch = tuple[int, int]

NEVER = 1 << 62
COMMIT = SECOND // 4
"""How long after the instant of a claim its commit may be, on a busy machine."""


class Capacity:
    """Computes when a process could run a tick, and when a process was hit by a fault."""

    def __init__(self, case: Case) -> None:
        self._case = case
        faults = (*_exactly(case), *_own_faults(case))
        self._shared = [
            (one.began, one.ended) for one in faults if one.kind in STORE or one.kind in MACHINE
        ]
        self._restarts = [(one.began, one.ended) for one in faults if one.kind == "store-restart"]
        self._pauses = _by_pid(faults, PAUSES)
        self._deaths = _by_pid(faults, KILLS)
        self._leaves = _by_pid(faults, LEAVES)
        self._able = [
            stretch
            for life in _lives(case, self._deaths, self._leaves)
            for stretch in _without(life[1], [*self._shared, *self._pauses.get(life[0], [])])
        ]

    def ready(self, instant: int, need: int = SECOND) -> int:
        """Return the first instant from *instant* on from which one process can do all of *need*.

        It is `NEVER` when there is none before the end of the run.
        """
        found = [max(instant, began) for began, ended in self._able]
        fits = [
            start
            for start, (_, ended) in zip(found, self._able, strict=True)
            if ended - start >= need
        ]
        return min(fits, default=NEVER)

    def is_dark(self, instant: int, need: int = SECOND) -> bool:
        """Return whether no process could run a tick of *instant* for all of *need*."""
        return self.ready(instant, need) > instant

    def hit(self, pid: int, since: int, until: int) -> Stretch | None:
        """Return when a process was killed, or else first paused, between two instants."""
        for hits in (self._deaths, self._pauses):
            found = [one for one in hits.get(pid, ()) if one[1] >= since and one[0] <= until]
            if found:
                return min(found)
        return None

    def was_unanswered(self, claimed_at: int, span: int) -> bool:
        """Return whether a claim of that instant may have waited for so long.

        A store with a clock of its own gives it the instant at which it went on.
        """
        return any(
            began <= claimed_at + SECOND and ended >= claimed_at - SECOND and ended - began >= span
            for began, ended in self._shared
        )

    def was_cut(self, claimed_at: int) -> bool:
        """Return whether the reply to a claim of that instant may have been lost.

        The server commits a claim up to `COMMIT` after it has read the clock. A restart cuts all
        connections, whether the reply was sent or not.
        """
        return any(began - COMMIT <= claimed_at <= ended for began, ended in self._restarts)

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

    def _found_out(self, hit: Stretch) -> int:
        """Return when other processes have observed an unrenewed lease for its whole duration."""
        return min(self.ready(hit[0], self._case.lease + SECOND) + self._case.lease, NEVER)

    def _undisturbed(self, pid: int, instant: int) -> int:
        """Return the first instant from then on at which that process could record."""
        disturbances = sorted([*self._shared, *self._pauses.get(pid, ())])
        for began, ended in disturbances:
            if began <= instant < ended:
                instant = ended
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


def _lives(
    case: Case, deaths: dict[int, list[Stretch]], leaves: dict[int, list[Stretch]]
) -> list[tuple[int, Stretch]]:
    """Return for each process how long it accepted new work."""
    stops: dict[int, int] = {}
    for line in case.lines:
        if line.what in {"leave", "stop"}:
            stops.setdefault(line.pid, line.wall)
    lives: list[tuple[int, Stretch]] = []
    for line in case.lines:
        if line.what == "start":
            ends = [case.ended, stops.get(line.pid, NEVER)]
            for hits in (deaths, leaves):
                ends += [began for began, _ in hits.get(line.pid, ())]
            lives.append((line.pid, (line.wall, min(ends))))
    return lives


def _without(stretch: Stretch, holes: Sequence[Stretch]) -> list[Stretch]:
    """Return the parts of a stretch outside the holes."""
    left: list[Stretch] = []
    began, until = stretch
    for hole_began, hole_ended in sorted(holes):
        if hole_ended <= began or hole_began >= until:
            continue
        if hole_began > began:
            left.append((began, hole_began))
        began = max(began, hole_ended)
    if began < until:
        left.append((began, until))
    return left
