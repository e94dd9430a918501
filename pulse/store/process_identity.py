"""The identity of this process, and whether another process of the same machine still lives.

A holder's name is host:pid:nonce, made after the fork, so that no two processes ever share one.
Pids are comparable only when boot id and pid namespace are equal. The start time of a process shows
whether its pid was reused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.store.base import Member

if TYPE_CHECKING:
    from pulse.clock import Span

_PROC = Path("/proc")
_STATE, _THREADS, _STARTED = 0, 17, 19
"""Indexes of fields in /proc/<pid>/stat, counted after the command's name; see proc_pid_stat(5)."""


def this_member(mode: str, digest: str, lease_us: Span) -> Member:
    """Return this process as a new member; call it after the fork, once for each `Store.open`."""
    host, pid = os.uname().nodename, os.getpid()
    return Member(
        holder=f"{host}:{pid}:{os.urandom(4).hex()}",
        host=host,
        machine=this_machine(),
        pid=pid,
        pid_started=start_time_of(pid),
        mode=mode,
        digest=digest,
        lease_us=lease_us,
    )


def this_machine(proc: Path = _PROC) -> str:
    """Return boot id and pid namespace; empty when the system does not provide both."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{(proc / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def boot_of(machine: str) -> str:
    """Return the boot id of a member's machine; equal boot ids share a boot clock."""
    return machine.partition(":")[0]


def is_gone(other: Member, *, machine: str) -> bool:
    """Return whether *other* was a process of this machine and no longer exists.

    False means that the process lives, or that its state is unknown here.

    Args:
        other: the process.
        machine: this machine, as `this_machine` returns it.

    """
    if not machine or other.machine != machine:
        return False
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # the process of another user: it exists
    started = start_time_of(other.pid)
    if started == 0:
        return False
    if other.pid_started not in (0, started):
        return True
    return _is_zombie(other.pid)


def start_time_of(pid: int, *, proc: Path = _PROC) -> int:
    """Return when a process started, in clock ticks since boot; 0 when unknown."""
    fields = _stat(pid, proc)
    return int(fields[_STARTED]) if fields else 0


def _is_zombie(pid: int) -> bool:
    # A process of which only the main thread has ended has the state Z too, but has more threads.
    fields = _stat(pid, _PROC)
    return bool(fields) and fields[_STATE] in "ZX" and int(fields[_THREADS]) <= 1


def _stat(pid: int, proc: Path) -> list[str]:
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
