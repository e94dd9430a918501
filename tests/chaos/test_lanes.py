"""The drawing of a run."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from facts import SECOND
from good_run import START, VICTIM, good_run
from lanes import draw

SVG = "{http://www.w3.org/2000/svg}"


def test_every_call_is_drawn() -> None:
    """Each attempt is a box whose title says which it is."""
    case = good_run()
    titles = [one.text for one in ET.fromstring(draw(case)).iter(f"{SVG}title")]  # noqa: S314 - our own text
    begun = sum(line.what == "begin" for line in case.lines)
    assert sum("attempt" in (title or "") for title in titles) == begun


def test_faults_are_named() -> None:
    """Who was hit stands above the lanes."""
    texts = [one.text for one in ET.fromstring(draw(good_run())).iter(f"{SVG}text")]  # noqa: S314 - our own text
    assert f"kill {VICTIM}" in texts


def test_a_part_is_smaller_than_the_whole() -> None:
    """A stretch can be drawn by itself."""
    part = draw(good_run(), since=START + 8 * SECOND, until=START + 12 * SECOND)
    assert len(part) < len(draw(good_run())) / 2
