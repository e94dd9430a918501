"""Who this process is, and whether another process of the same machine still lives.

A holder's name is host:pid:nonce, made after fork, so that no two processes ever share one. Pids
compare only where boot id and pid namespace are the same; a pid that was given to another process
since is told by its start time.
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
"""Fields of /proc/<pid>/stat, counted from the one after the command's name."""


def this_member(mode: str, digest: str, lease_us: Span) -> Member:
    """Return this process as a member; call it after fork, once for each time it takes part."""
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
    """Return boot id and pid namespace; empty where the system tells neither."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{(proc / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def boot_of(machine: str) -> str:
    """Return the boot id of a member's machine; equal ones share a boot clock."""
    return machine.partition(":")[0]


def is_gone(other: Member, *, machine: str) -> bool:
    """Return whether *other* was a process of *machine*, which is this one, and is no more.

    False means that it lives or that nobody can tell from here.
    """
    if not machine or other.machine != machine:
        return False
    try:
        os.kill(other.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's process: it exists
    started = start_time_of(other.pid)
    if started == 0:
        return False
    if other.pid_started not in (0, started):
        return True
    return _is_zombie(other.pid)


def start_time_of(pid: int, *, proc: Path = _PROC) -> int:
    """Return when a process started, in clock ticks since boot; 0 where unknown."""
    fields = _stat(pid, proc)
    return int(fields[_STARTED]) if fields else 0


def _is_zombie(pid: int) -> bool:
    # A process whose first thread alone has ended looks like a zombie too, but has more threads.
    fields = _stat(pid, _PROC)
    return bool(fields) and fields[_STATE] in "ZX" and int(fields[_THREADS]) <= 1


def _stat(pid: int, proc: Path) -> list[str]:
    try:
        text = (proc / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
