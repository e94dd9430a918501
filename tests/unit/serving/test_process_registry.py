"""The members of a process, told of its fork and its exit."""

from __future__ import annotations

import pytest

from pulse.serving.process_registry import ProcessRegistry, end_all
from tests.support.member import RecordingMember


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
    roll = ProcessRegistry()
    kept = RecordingMember()
    roll.add(kept)
    roll.add(RecordingMember())

    assert roll.members() == [kept]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_cuts_a_drain_short_ends_it_without_a_traceback(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted at the interpreter's exit, the members are told to end once more."""
    registered = []
    monkeypatch.setattr("atexit.register", registered.append)
    roll = ProcessRegistry()
    impatient = RecordingMember(interrupts=1, kind=kind)
    roll.add(impatient)
    roll.await_exit()

    registered[0]()

    assert impatient.told == ["quiet", "end", "quiet", "end"]
