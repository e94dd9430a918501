"""What a run leaves behind."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.chaos.artifacts import SECOND, clock_of, keep_case, micros, read_case
from tests.chaos.capacity import NEVER, Capacity
from tests.chaos.good_run import KILLED, OTHER, START, VICTIM, good_run
from tests.chaos.report import is_good, report

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_can_be_judged_again(tmp_path: Path) -> None:
    """What is kept in the folder is the whole run."""
    case = good_run()
    lines = "".join(json.dumps(line._asdict()) + "\n" for line in case.lines)
    (tmp_path / "evidence.jsonl").write_text(lines)
    keep_case(tmp_path, case)
    assert read_case(tmp_path) == case


def test_instants_are_read_as_they_are_written() -> None:
    """To the microsecond."""
    assert micros("2026-11-23T07:00:00.000250Z") == START + 250
    assert clock_of(START + 250_000) == "07:00:00.250"


def test_somebody_is_ready_while_anybody_lives() -> None:
    """The death of one of two processes leaves no gap; the end of the run ends all."""
    capacity = Capacity(good_run())
    assert capacity.ready(KILLED) == KILLED
    assert capacity.ready(START + 60 * SECOND) == NEVER


def test_nobody_is_ready_while_the_last_one_is_stopped() -> None:
    """From its return on somebody is."""
    from tests.chaos.artifacts import Fault

    case = good_run()
    stop = Fault("stop", KILLED + SECOND, KILLED + 7 * SECOND, (OTHER,))
    capacity = Capacity(case._replace(faults=(*case.faults, stop)))
    assert capacity.ready(KILLED + SECOND) == stop.ended


def test_a_lost_run_is_known_to_be_lost_after_a_lease() -> None:
    """Counted from the death of its holder."""
    assert Capacity(good_run()).closed(VICTIM, KILLED - 1, None) == KILLED + 3 * SECOND


def test_a_report_says_what_is_broken() -> None:
    """A rule that is broken is told with what breaks it."""
    case = good_run()
    text = report("made up", case._replace(history=case.history[1:]), "")
    assert (is_good(report("made up", case, "")), is_good(text)) == (True, False)
    assert "plain 07:00:00.000 ran and has no row" in text
