"""The identity of a process, and whether another process of this machine still lives."""

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


def test_holder_is_host_pid_and_nonce(member: Member) -> None:
    """The name shows where the process runs."""
    assert member.holder.startswith(f"{member.host}:{os.getpid()}:")


def test_two_members_of_one_process_have_different_holders(member: Member) -> None:
    """A process that opens a store twice is two holders."""
    assert member.holder != this_member("inline", "digest", 30 * SECOND).holder


def test_this_process_is_not_gone(member: Member) -> None:
    """A living process is never found gone."""
    assert not is_gone(member, machine=this_machine())


def test_ended_process_is_gone(member: Member) -> None:
    """No process has its pid."""
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    ended = msgspec.structs.replace(member, pid=int(child.stdout))
    assert is_gone(ended, machine=this_machine())


def test_process_with_a_reused_pid_is_gone(member: Member) -> None:
    """The start time shows that it is another process."""
    other = msgspec.structs.replace(member, pid_started=member.pid_started - 1)
    assert is_gone(other, machine=this_machine())


def test_process_without_a_known_start_time_is_not_gone(member: Member) -> None:
    """An existing pid is taken for the process."""
    other = msgspec.structs.replace(member, pid_started=0)
    assert not is_gone(other, machine=this_machine())


@pytest.mark.parametrize("machine", ["", "elsewhere:1"])
def test_process_of_another_machine_is_not_gone(member: Member, machine: str) -> None:
    """Nothing is known about a process on another machine."""
    other = msgspec.structs.replace(member, machine=machine, pid=2**22 + 1)
    assert not is_gone(other, machine=this_machine())


def test_process_without_a_known_machine_is_not_gone(member: Member) -> None:
    """An unknown machine is equal to no other."""
    other = msgspec.structs.replace(member, machine="", pid=2**22 + 1)
    assert not is_gone(other, machine="")


def test_process_of_another_user_is_not_gone(
    member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pid that may not be signalled exists."""

    def refuse(_pid: int, _signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    other = msgspec.structs.replace(member, pid=2**22 + 1)
    assert not is_gone(other, machine=this_machine())


def test_machine_without_proc_is_empty(tmp_path: Path) -> None:
    """Without /proc there is no boot id."""
    assert this_machine(tmp_path) == ""


def test_boot_id_is_the_first_part_of_a_machine() -> None:
    """Containers of one host share it."""
    assert boot_of("abc-def:4026531836") == "abc-def"


def test_start_time_is_read_after_any_command_name(tmp_path: Path) -> None:
    """Blanks and brackets in the name do not shift the fields."""
    (tmp_path / "77").mkdir()
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "77" / "stat").write_text(f"77 (a ) b) S {fields}")
    assert start_time_of(77, proc=tmp_path) == 22
