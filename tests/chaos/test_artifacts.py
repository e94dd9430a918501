"""The artifacts of a chaos run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.chaos.artifacts import SECOND, clock_of, keep_case, micros, read_case
from tests.chaos.capacity import NEVER, Capacity
from tests.chaos.good_run import KILLED, OTHER, START, VICTIM, good_run
from tests.chaos.report import is_good, report

if TYPE_CHECKING:
    from pathlib import Path


def test_stored_run_can_be_checked_again(tmp_path: Path) -> None:
    """The folder contains the whole run."""
    case = good_run()
    lines = "".join(json.dumps(line._asdict()) + "\n" for line in case.lines)
    (tmp_path / "evidence.jsonl").write_text(lines)
    keep_case(tmp_path, case)
    assert read_case(tmp_path) == case


def test_instants_are_read_back_unchanged() -> None:
    """They are exact to the microsecond."""
    assert micros("2026-11-23T07:00:00.000250Z") == START + 250
    assert clock_of(START + 250_000) == "07:00:00.250"


def test_capacity_exists_while_one_process_lives() -> None:
    """The death of one of two processes leaves no gap; the end of the run ends all capacity."""
    capacity = Capacity(good_run())
    assert capacity.ready(KILLED) == KILLED
    assert capacity.ready(START + 60 * SECOND) == NEVER


def test_no_capacity_exists_while_the_last_process_is_stopped() -> None:
    """Capacity exists again once it continues."""
    from tests.chaos.artifacts import Fault

    case = good_run()
    stop = Fault("stop", KILLED + SECOND, KILLED + 7 * SECOND, (OTHER,))
    capacity = Capacity(case._replace(faults=(*case.faults, stop)))
    assert capacity.ready(KILLED + SECOND) == stop.ended


def test_lost_run_is_known_to_be_lost_after_a_lease() -> None:
    """The lease is counted from the death of its holder."""
    assert Capacity(good_run()).closed(VICTIM, KILLED - 1, None) == KILLED + 3 * SECOND


def test_report_names_broken_rules() -> None:
    """Each broken rule is listed with its violations."""
    case = good_run()
    text = report("made up", case._replace(history=case.history[1:]), "")
    assert (is_good(report("made up", case, "")), is_good(text)) == (True, False)
    assert "plain 07:00:00.000 ran and has no row" in text
