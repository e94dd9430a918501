"""Who a process is, and whether another of the same machine still lives."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from pulse.clock import SECOND
from pulse.store.process_identity import boot_of, is_gone, start_time_of, this_machine, this_member

if TYPE_CHECKING:
    from pathlib import Path

    from pulse.store.base import Member


@pytest.fixture
def member() -> Member:
    """Return this process."""
    return this_member("inline", "digest", 30 * SECOND)


def test_a_holder_is_host_pid_and_nonce(member: Member) -> None:
    """The name says where the process is to be found."""
    assert member.holder.startswith(f"{member.host}:{os.getpid()}:")


def test_no_two_holders_are_the_same(member: Member) -> None:
    """A process that takes part twice is two holders."""
    assert member.holder != this_member("inline", "digest", 30 * SECOND).holder


def test_this_process_lives(member: Member) -> None:
    """Nobody finds a living process gone."""
    assert not is_gone(member, machine=this_machine())


def test_an_ended_process_is_gone(member: Member) -> None:
    """Its pid belongs to nobody."""
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    ended = msgspec.structs.replace(member, pid=int(child.stdout))
    assert is_gone(ended, machine=this_machine())


def test_a_pid_that_was_given_away_is_told_by_its_start(member: Member) -> None:
    """A process that started at another time is another process."""
    other = msgspec.structs.replace(member, pid_started=member.pid_started - 1)
    assert is_gone(other, machine=this_machine())


def test_an_unknown_start_time_does_not_count(member: Member) -> None:
    """Where the system did not tell, a pid that exists is taken for the process."""
    other = msgspec.structs.replace(member, pid_started=0)
    assert not is_gone(other, machine=this_machine())


@pytest.mark.parametrize("machine", ["", "elsewhere:1"])
def test_pids_of_other_machines_do_not_compare(member: Member, machine: str) -> None:
    """Nothing can be told of a process that is not here."""
    other = msgspec.structs.replace(member, machine=machine, pid=2**22 + 1)
    assert not is_gone(other, machine=this_machine())


def test_nothing_is_told_without_a_machine(member: Member) -> None:
    """Where boot id and pid namespace are unknown, even equal ones do not compare."""
    other = msgspec.structs.replace(member, machine="", pid=2**22 + 1)
    assert not is_gone(other, machine="")


def test_another_user_s_process_lives(member: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pid that may not be signalled exists, whatever of it can be read."""

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    other = msgspec.structs.replace(member, pid=2**22 + 1)
    assert not is_gone(other, machine=this_machine())


def test_a_machine_that_tells_nothing_is_empty(tmp_path: Path) -> None:
    """Without /proc there is no boot id."""
    assert this_machine(tmp_path) == ""


def test_the_boot_id_is_the_first_part_of_a_machine() -> None:
    """Containers of one host share it."""
    assert boot_of("abc-def:4026531836") == "abc-def"


def test_a_start_time_is_read_past_any_command_name(tmp_path: Path) -> None:
    """A name with blanks and brackets does not shift the fields."""
    (tmp_path / "77").mkdir()
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "77" / "stat").write_text(f"77 (a ) b) S {fields}")
    assert start_time_of(77, proc=tmp_path) == 22
