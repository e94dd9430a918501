"""When Celery workers could take a run, and by when runs must go on after a fault on their way.

A worker takes messages from its line `consume` on, while one of its processes is `ready`, until it
is killed or gets SIGTERM. It can take a run at once while one of these processes is idle; a run
that ends soon does not count, since it delays others as little. A worker gets messages while it is
busy and others are idle, so only time in which each worker is idle counts.

A fault of the broker, a pause of a worker, the death of one of its processes, its end from the
signal on (it keeps the messages that it has not begun until it has ended) and the time in which no
worker is there are disturbances. A message may be anywhere then, so no window closes during a
disturbance, nor before the first run that was claimed and began after it, for which there is a
bound.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tests.chaos.artifacts import BROKER, SECOND, STORE
from tests.chaos.stretches import common, crowded, outside, union

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.chaos.artifacts import Case, Fault, Line

    Stretch = tuple[int, int]
    Hits = Mapping[int, Sequence[Stretch]]

NEVER = 1 << 62
BROKER_BOUND = 10 * SECOND
"""How long after a fault of the broker runs must go on."""

WORKER_BOUND = 5 * SECOND
"""The same after the start of a worker, or after a pause or the death of one of its processes."""

SENT_AGAIN = 4 * SECOND
"""A worker that cannot reach the store sends the message again after up to 3 s, and may find only
then that the store is back."""

BRIEF = SECOND // 10
"""A run that ends sooner keeps no other one waiting."""


class Hit(NamedTuple):
    """What was done to processes, by pid: deaths, pauses, and orders to end."""

    deaths: Hits
    pauses: Hits
    leaves: Hits

    def ends(self, pid: int, since: int) -> list[int]:
        """Return when a process that began at *since* was killed or got SIGTERM."""
        found = (*self.deaths.get(pid, ()), *self.leaves.get(pid, ()))
        return [began for began, ended in found if ended >= since]


class Disturbance(NamedTuple):
    """A stretch in which runs may not go on, and how soon after it they must."""

    kind: str
    began: int
    ended: int
    bound: int


class WorkerCapacity:
    """Computes when some worker could take a run.

    Attributes:
        pids: the processes of workers.
        there: when a worker took messages.
        idle: when each worker that was there could execute a run at once.
        disturbances: the stretches in which runs may not go on, by their end.
        broker_holes: when the web processes may have claimed nothing because of the broker.
        holes: when no window closes.

    """

    def __init__(self, case: Case, faults: Sequence[Fault], hit: Hit) -> None:
        self._case = case
        self._hit = hit
        self.pids: set[int] = {line.pid for line in case.lines if line.what in {"ready", "consume"}}
        self._begins = sorted(
            (one.wall, one.fire_time) for one in case.lines if one.what == "begin"
        )
        self._busy = _busy(case, hit)
        self._stops = _stops(case)
        present, busy = self._workers()
        self.there: list[Stretch] = union(present)
        self.idle: list[Stretch] = outside(self.there, busy)
        self.disturbances: list[Disturbance] = sorted(
            [*_of_broker(faults), *self._of_workers(), *self._absences()],
            key=lambda one: one.ended,
        )
        self.broker_holes: list[Stretch] = [
            self._hole(one) for one in self.disturbances if one.kind == "broker"
        ]
        resent = [(one.began, one.ended + SENT_AGAIN) for one in faults if one.kind in STORE]
        self.holes: list[Stretch] = union([*map(self._hole, self.disturbances), *resent])
        self._hits: list[Stretch] = [
            one for hits in hit for pid in self.pids for one in hits.get(pid, ())
        ]

    def resumed(self, disturbance: Disturbance) -> int:
        """Return when the first run began that was due after a disturbance; `NEVER` for none."""
        first = bisect_left(self._begins, (disturbance.ended, 0))
        later = islice(self._begins, first, None)
        return next((wall for wall, due in later if due >= disturbance.ended), NEVER)

    def explains_wait(self, claimed: int) -> bool:
        """Return whether a run that was claimed then may have found no worker during its wait."""
        until = claimed + self._case.wait
        causes = (*self.holes, *self._hits)
        if any(began <= until and ended >= claimed - BRIEF for began, ended in causes):
            return True
        idle = (min(ended, until) - max(began, claimed) for began, ended in self.idle)
        return max(idle, default=0) < SECOND

    def _hole(self, one: Disturbance) -> Stretch:
        return one.began, min(self.resumed(one), one.ended + one.bound)

    def _workers(self) -> tuple[list[Stretch], list[Stretch]]:
        """Return when workers were there, and when one of them was without an idle process."""
        present: list[Stretch] = []
        busy: list[Stretch] = []
        for name in {line.worker for line in self._case.lines if line.what == "consume"}:
            own = [line for line in self._case.lines if line.worker == name]
            mains = [self._life(line) for line in own if line.what == "consume"]
            members = [line for line in own if line.what == "ready"]
            there = common(union(mains), union(map(self._life, members)))
            idle = union(part for line in members for part in self._idle(line))
            present += there
            busy += outside(there, common(there, idle))
        return present, busy

    def _life(self, line: Line) -> Stretch:
        stops = [one for one in self._stops.get(line.pid, ()) if one >= line.wall]
        ends = self._hit.ends(line.pid, line.wall)
        return line.wall, max(line.wall, min([self._case.ended, *stops, *ends]))

    def _idle(self, line: Line) -> list[Stretch]:
        full = crowded(self._busy.get(line.pid, []), line.slots)
        return outside([self._life(line)], full)

    def _of_workers(self) -> Iterable[Disturbance]:
        for kind, hits in (("pause", self._hit.pauses), ("death", self._hit.deaths)):
            found = {one for pid in self.pids for one in hits.get(pid, ())}
            yield from (Disturbance(kind, *one, WORKER_BOUND) for one in found)
        for pid, hits in self._hit.leaves.items():
            for began, ended in hits:
                stops = [one for one in self._stops.get(pid, ()) if began <= one <= ended]
                yield Disturbance("leave", began, max(stops, default=began), WORKER_BOUND)

    def _absences(self) -> Iterable[Disturbance]:
        """Yield when no worker was there, from the first fire time on."""
        first = min(spec.start for spec in self._case.specs)
        for hole in outside([(first, self._case.ended)], self.there):
            yield Disturbance("absence", *hole, WORKER_BOUND)


def _of_broker(faults: Iterable[Fault]) -> Iterable[Disturbance]:
    """Yield the faults of the broker; faults that follow each other soon count as one."""
    away = sorted((one.began, one.ended) for one in faults if one.kind in BROKER)
    joined: list[Stretch] = []
    for began, ended in away:
        if joined and began <= joined[-1][1] + BROKER_BOUND:
            joined[-1] = joined[-1][0], max(joined[-1][1], ended)
        else:
            joined.append((began, ended))
    for began, ended in joined:
        yield Disturbance("broker", began, ended, BROKER_BOUND)


def _busy(case: Case, hit: Hit) -> dict[int, list[Stretch]]:
    """Return for each process when it executed runs, but for brief ones."""
    ends = {
        (line.pid, line.run, line.attempt): line.wall for line in case.lines if line.what == "end"
    }
    busy: dict[int, list[Stretch]] = {}
    for line in case.lines:
        if line.what == "begin":
            last = min([case.ended, *hit.ends(line.pid, line.wall)])
            ended = ends.get((line.pid, line.run, line.attempt), last)
            if ended - line.wall > BRIEF:
                busy.setdefault(line.pid, []).append((line.wall, ended))
    return busy


def _stops(case: Case) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for line in case.lines:
        if line.what == "stop":
            found.setdefault(line.pid, []).append(line.wall)
    return found
