"""The timeline drawing of a run."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from tests.chaos.artifacts import SECOND, Case, Fault
from tests.chaos.good_run import START, VICTIM, good_run
from tests.chaos.timeline_drawing import draw

SVG = "{http://www.w3.org/2000/svg}"


def test_each_attempt_is_drawn() -> None:
    """Each attempt is a box whose title names it."""
    case = good_run()
    titles = [one.text for one in ET.fromstring(draw(case)).iter(f"{SVG}title")]  # noqa: S314 - our own text
    begun = sum(line.what == "begin" for line in case.lines)
    assert sum("attempt" in (title or "") for title in titles) == begun


def test_each_fault_is_labelled() -> None:
    """The label above the lanes names the affected processes."""
    texts = [one.text for one in ET.fromstring(draw(good_run())).iter(f"{SVG}text")]  # noqa: S314 - our own text
    assert f"kill {VICTIM}" in texts


def test_label_of_a_fault_near_the_end_is_not_cut_off() -> None:
    """It ends at the edge of the drawing instead of starting at its fault."""
    case = good_run()
    late = Fault("kill-before-finish", case.ended, case.ended, (VICTIM,))
    named = captions(case._replace(faults=(late,)))[f"kill-before-finish {VICTIM}"]
    assert named.get("text-anchor") == "end"


def test_labels_of_close_faults_are_on_different_lines() -> None:
    """Each label is on the lowest line with space for it."""
    case = good_run()
    faults = tuple(Fault("stop", START + n * SECOND, START + 9 * SECOND, (n,)) for n in range(4))
    lines = [named.get("y") for named in captions(case._replace(faults=faults)).values()]
    assert lines == ["48", "36", "48", "36"]


def captions(case: Case) -> dict[str, ET.Element]:
    """Return the labels of faults above the lanes, as they are drawn."""
    texts = ET.fromstring(draw(case)).iter(f"{SVG}text")  # noqa: S314 - our own text
    return {one.text or "": one for one in texts if one.get("fill") == "#a40"}


def test_drawing_of_a_part_is_smaller_than_the_whole() -> None:
    """A stretch can be drawn by itself."""
    part = draw(good_run(), since=START + 8 * SECOND, until=START + 12 * SECOND)
    assert len(part) < len(draw(good_run())) / 2
