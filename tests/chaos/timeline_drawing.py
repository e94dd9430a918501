"""Draws the timeline of a run: a lane for each task, with windows, runs and faults."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from tests.chaos.artifacts import BROKER, MACHINE, SECOND, STORE, clock_of
from tests.chaos.capacity import NEVER
from tests.chaos.checker import Judge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.chaos.artifacts import Case, Fault
    from tests.chaos.run_log import Run
    from tests.chaos.window_matching import Window

PIXELS_A_SECOND = 24
LANE, LEFT, TOP = 34, 70, 64
LETTER = 5
"""More than a letter of a fault's name takes, on average."""

_SIGNS = {"missed": "#888", "skipped": "#bbb", "abandoned": "#c00"}


def draw(case: Case, *, since: int | None = None, until: int | None = None) -> str:
    """Return an SVG of the run, or of a part of it."""
    return "\n".join(Drawing(case, since, until).parts())


class Drawing:
    """A drawing of a stretch of a run."""

    def __init__(self, case: Case, since: int | None, until: int | None) -> None:
        first = min(spec.start for spec in case.specs) - SECOND
        self._since = first if since is None else since
        self._until = case.ended + SECOND if until is None else until
        self._judge = Judge(case)
        self._case = case
        self._colours: dict[int, str] = {}
        self._width = LEFT + round(self._x(self._until)) - LEFT + 20
        self._height = TOP + LANE * len(case.specs) + 30

    def _x(self, instant: int) -> float:
        return round(LEFT + (instant - self._since) / SECOND * PIXELS_A_SECOND, 1)

    def _shows(self, began: int, ended: int) -> bool:
        return ended >= self._since and began <= self._until

    def parts(self) -> Iterator[str]:
        """Yield the elements in the order in which they cover each other."""
        width, height = self._width, self._height
        size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        yield f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">'
        yield '<rect width="100%" height="100%" fill="#fff"/>'
        faults = sorted(self._faults(), key=lambda one: one.began)
        for fault in faults:
            yield self._band(fault)
        yield from self._captions(fault for fault in faults if fault.kind not in MACHINE)
        for number, spec in enumerate(self._case.specs):
            top = TOP + LANE * number
            yield f'<text x="4" y="{top + 16}" font-size="12">{escape(spec.name)}</text>'
            for window in self._judge.windows[spec.name]:
                yield from self._window(window, top)
            for run in self._judge.run_log.of(spec.name):
                yield from self._run(run, top)
            for (task, tick), row in self._judge.run_log.covered.items():
                if task == spec.name:
                    yield from self._sign(tick, row.outcome, top)
        yield from self._axis()
        yield "</svg>"

    def _faults(self) -> Iterator[Fault]:
        from tests.chaos.artifacts import Fault

        yield from (one for one in self._case.faults if self._shows(one.began, one.ended))
        for line in self._case.lines:
            if line.what == "victim" and line.point != "stop-after-claim":
                fault = Fault(line.point, line.wall, line.wall, (line.pid,))
                if self._shows(fault.began, fault.ended):
                    yield fault

    def _band(self, fault: Fault) -> str:
        left, right = self._x(max(fault.began, self._since)), self._x(min(fault.ended, self._until))
        shared = fault.kind in STORE | MACHINE | BROKER
        fill, strength = ("#f88", 0.35) if shared else ("#fc6", 0.18)
        width = max(1.5, round(right - left, 1))
        return (
            f'<rect x="{left}" y="{TOP - 8}" width="{width}" height="{self._height - TOP - 14}"'
            f' fill="{fill}" fill-opacity="{strength if width > 3 else 1}"/>'
        )

    def _captions(self, faults: Iterable[Fault]) -> Iterator[str]:
        """Yield the labels of faults, each on the lowest line with space for it."""
        taken = [0.0] * 4
        for fault in faults:
            who = f" {fault.pids[0]}" if len(fault.pids) == 1 else ""
            room = LETTER * len(f"{fault.kind}{who} ")
            left = self._x(max(fault.began, self._since))
            at_edge = left + room > self._width
            begins = self._width - room if at_edge else left
            free = [line for line, end in enumerate(taken) if end <= begins]
            line = free[0] if free else taken.index(min(taken))
            taken[line] = begins + room
            place = f'x="{self._width - 2}" text-anchor="end"' if at_edge else f'x="{left}"'
            y = TOP - 16 - 12 * line
            yield f'<text {place} y="{y}" font-size="9" fill="#a40">{fault.kind}{who}</text>'

    def _window(self, window: Window, top: int) -> Iterator[str]:
        if self._shows(window.opens, window.opens):
            closes = min(window.closes, self._until) if window.closes < NEVER else self._until
            width = round(self._x(closes) - self._x(window.opens), 1)
            yield (
                f'<rect x="{self._x(window.opens)}" y="{top + 22}" width="{width}" height="3"'
                ' fill="#59c" fill-opacity="0.35"/>'
            )

    def _run(self, run: Run, top: int) -> Iterator[str]:
        for line in run.begins:
            if not self._shows(line.wall, line.wall):
                continue
            end = run.ends.get(line.attempt)
            ended = line.wall if end is None else min(end.wall, self._until)
            width = max(2.0, self._x(ended) - self._x(line.wall))
            edge = ' stroke="#c00"' if end is None or end.status != 200 else ""
            title = f"{run.task} {clock_of(run.fire_time)} attempt {line.attempt}, pid {line.pid}"
            yield (
                f'<rect x="{self._x(line.wall)}" y="{top + 4}" width="{round(width, 1)}"'
                f' height="15" fill="{self._colour(line.pid)}" fill-opacity="0.8"{edge}>'
                f"<title>{escape(title)}</title></rect>"
            )
        if run.outcome == "abandoned":
            yield from self._sign(run.fire_time, "abandoned", top)

    def _sign(self, tick: int, outcome: str, top: int) -> Iterator[str]:
        if self._shows(tick, tick):
            yield (
                f'<circle cx="{self._x(tick)}" cy="{top + 29}" r="2.5" fill="{_SIGNS[outcome]}">'
                f"<title>{outcome} {clock_of(tick)}</title></circle>"
            )

    def _axis(self) -> Iterator[str]:
        second = -(-self._since // SECOND)
        while second * SECOND <= self._until:
            x = self._x(second * SECOND)
            if second % 5 == 0:
                text = clock_of(second * SECOND)[:8]
                place = f'x="{x}" y="{self._height - 8}" text-anchor="middle"'
                yield f'<text {place} font-size="9">{text}</text>'
            second += 1

    def _colour(self, pid: int) -> str:
        known = self._colours
        hue = 50 + (150 + len(known) * 173) % 280  # none of them red, which is for what went wrong
        return known.setdefault(pid, f"hsl({hue},60%,55%)")
