"""The members of a process, told of its fork and its exit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.serving.process_registry import Roll, end_all
from tests.support.member import RecordingMember

if TYPE_CHECKING:
    import pytest


def test_all_go_quiet_before_the_first_drains() -> None:
    """While one member drains, none of the others claims any more."""
    told: list[str] = []
    members = [RecordingMember(), RecordingMember()]
    for member in members:
        member.told = told

    end_all(members)

    assert told == ["quiet", "quiet", "end", "end"]


def test_the_dropped_are_forgotten() -> None:
    """Only members that somebody keeps are on the roll."""
    roll = Roll()
    kept = RecordingMember()
    roll.add(kept)
    roll.add(RecordingMember())

    assert roll.members() == [kept]


def test_ctrl_c_in_a_drain_ends_it_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted at the interpreter's exit, the members are told to end once more."""
    registered = []
    monkeypatch.setattr("atexit.register", registered.append)
    roll = Roll()
    impatient = RecordingMember(interrupts=1)
    roll.add(impatient)
    roll.await_exit()

    registered[0]()

    assert impatient.told == ["quiet", "end", "quiet", "end"]
