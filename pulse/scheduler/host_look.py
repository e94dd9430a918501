"""One process of a host looks at the store for all: a mark in a file says when it last looked.

Theory of operation
-------------------
Processes with the same store, name and configuration, in one PID namespace, share a folder in
memory. The file `mark` holds when a process last looked at the store, which process that was, how
often it looks, and when the store has work next. A process that is idle reads the mark when it
wakes up:

    mark is its own, or stale --> look, and write the mark: this process looks from now on
    mark is fresh             --> sleep until the mark would be stale; the store is not asked

A mark is stale 1.06 to 1.11 periods after the look, at random, so that one process
replaces the one that looks when that one ends, hangs, or has no free slot. If the store has work
before that, the others wake up shortly after the fire time: by then the mark shows whether somebody
has looked. Two processes that look at once do no harm, because the store decides who runs what.

A process with tasks of its own partition (`scope = process`) wakes up for them: the one that looks
asks the store when each of these partitions has work, and writes that into the file `work`.

The file `leases` holds what the process that looks has seen of the leases of claimed runs, so that
the next one continues the observation. After a failed look there is no such file.

Each process that sleeps so writes the boot clock into a file of its own, its slot. The process that
looks sends the heartbeats of those whose slots have moved: a process that is stopped or hangs is
not kept alive. A process whose slot was removed looks by itself once. There is no lock and no
thread. A folder that cannot be used means no mark: each process looks by itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.clock import SECOND, SystemClock
from pulse.store.backoff import chance
from pulse.store.folders import is_usable, network_file_system, own_folder
from pulse.store.lease_watch import Observations
from pulse.store.steering import MemberReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from pulse.clock import Span
    from pulse.store.base import Member

PERIOD: Span = SECOND * 17 // 20
"""How often the process that looks does so, in a fleet of up to 17 hosts."""

LOOKS_A_SECOND = 20
"""How many looks a second a fleet of more hosts makes, if nothing is due.

A look reads the row of each process, so its cost grows with the fleet, too.
"""

LATEST_TAKEOVER: Span = 160_000
EARLIEST_TAKEOVER: Span = 60_000
"""How long after a fire time a process sees whether another one has looked."""

ALIVE: Span = 5 * SECOND
"""A process that has not written its slot for so long, or for two periods, is not kept alive."""

_REWRITE: Span = SECOND // 20
"""A process that looks more often writes the mark only so often."""
_REWRITE_SLOT: Span = SECOND * 9 // 10
"""A process that wakes up more often writes its slot only so often."""
_LONGEST_PERIOD: Span = 60 * SECOND
_UNUSED_S = 3_600.0
_observations = msgspec.json.Decoder(Observations)
_report = msgspec.json.Decoder(MemberReport)
_FORMAT = 2
"""The form of the files: processes with another one do not share them."""
_MARK = struct.Struct("<4q")
_SLOT = struct.Struct("<q")
_SHARED = Path("/dev/shm")  # noqa: S108 - the owner and the mode of the folder below are checked
_SLOTS = ".slot"


class LookMark(NamedTuple):
    """The content of the mark; times are those of the boot clock, in microseconds.

    Attributes:
        looked_at: when a process last looked.
        pid: which one.
        period: how long after that it looks again.
        next_work: when the store has work next, if that is before the next look, else 0.

    """

    looked_at: Span
    pid: int
    period: Span
    next_work: Span


def period_of(hosts: int) -> Span:
    """Return how often the process of one host looks, in a fleet of so many hosts."""
    return max(PERIOD, hosts * SECOND // LOOKS_A_SECOND)


def stale_at(mark: LookMark, dice: Callable[[], float]) -> Span:
    """Return when another process looks, if the mark stays as it is until then."""
    after = mark.looked_at + mark.period * 53 // 50 + round(dice() * mark.period / 20)
    if mark.next_work:
        spread = round(dice() * (LATEST_TAKEOVER - EARLIEST_TAKEOVER))
        after = min(after, mark.next_work + EARLIEST_TAKEOVER + spread)
    return after


class Announcement(NamedTuple):
    """When a process has work of its own, as the store said at an instant of the boot clock.

    Attributes:
        read_at: when the store was asked.
        work_at: when the process has work; `NO_WORK` for never.

    """

    read_at: Span
    work_at: Span


class _Slot(NamedTuple):
    """The file of a process, and what it says about itself; None if that cannot be read."""

    path: Path
    report: MemberReport | None


def _report_of(said: bytes) -> MemberReport | None:
    try:
        return _report.decode(said)
    except msgspec.MsgspecError:
        return None


class HostLook:
    """The mark of one host, and this process's part in it.

    Args:
        folder: where the processes keep the mark and their slots.
        member: this process.
        dice: returns random numbers from 0 to 1.

    Attributes:
        period: how long after a look this process looks again.
        report: returns what this process says about itself.

    """

    def __init__(self, folder: Path, member: Member, *, dice: Callable[[], float] = chance) -> None:
        self._mark = _Reader(folder / "mark")
        self._work = folder / "work"
        self._leases = folder / "leases"
        self._observed: Mapping[str, tuple[int, Span]] | None = None
        self._slot = folder / f"{member.pid}{_SLOTS}"
        self._holder = member.holder
        self._pid = member.pid
        self._dice = dice
        self._keep_every = member.lease_us // 3
        self._kept_at: Span = 0
        self._written_at: Span = 0
        self._slot_written_at: Span = 0
        self._seen: LookMark | None = None
        self._stale_at: Span = 0
        self._has_slot = False
        self._slots: dict[str, _Slot] = {}
        self.period: Span = PERIOD
        self.report: Callable[[], MemberReport] = MemberReport

    def sleep(self, now: Span) -> Span:
        """Return how long another process looks for this one; 0 if this one has to look.

        A process that sleeps is kept alive by the one that looks.
        """
        mark = self._read()
        if mark is None or mark.pid == self._pid or mark.looked_at > now:
            return 0
        if mark != self._seen:
            self._seen, self._stale_at = mark, stale_at(mark, self._dice)
        pause = self._stale_at - now
        return pause if pause > 0 and self._write_slot(now) else 0

    def _write_slot(self, now: Span) -> bool:
        """Write the slot; return False if that is not possible, or another process removed it."""
        if self._has_slot and 0 <= now - self._slot_written_at < _REWRITE_SLOT:
            return True
        self._slot_written_at = now
        said = msgspec.json.encode(self.report())
        content = _SLOT.pack(now) + self._holder.encode() + b"\n" + said
        self._has_slot = _write(self._slot, content, create=not self._has_slot)
        return self._has_slot

    def looked(self, at: Span, until_work: Span) -> None:
        """Record that this process has looked, and after what time the store has work."""
        if at - self._written_at < _REWRITE and self._written_at:
            return
        self._written_at = at
        next_work = at + until_work if until_work < self.period * 2 else 0
        _write(self._mark.path, _MARK.pack(at, self._pid, self.period, next_work))

    def set_hosts(self, machines: int) -> None:
        """Let the period fit a fleet on so many hosts."""
        self.period = period_of(machines)

    def to_keep_alive(self, now: Span) -> dict[str, MemberReport | None]:
        """Return the holders that get a heartbeat now: a third of a lease after the last ones.

        Each with what it says about itself.
        """
        if now - self._kept_at < self._keep_every:
            return {}
        self._kept_at = now
        self.living(now)
        return {holder: slot.report for holder, slot in self._slots.items()}

    def living(self, now: Span) -> list[str]:
        """Return the holders that let this process look for them."""
        self._slots = dict(self._living(now))
        return [*self._slots]

    def announce(self, read_at: Span, work: Mapping[str, Span]) -> None:
        """Write when each holder has work of its own."""
        lines = [f"{read_at}", *(f"{at} {holder}" for holder, at in work.items())]
        self._replace(self._work, "\n".join(lines).encode())

    def _replace(self, path: Path, content: bytes) -> None:
        """Replace a file in one step, if it can be written."""
        draft = path.with_suffix(f".{self._pid}")
        if _write(draft, content, more=os.O_TRUNC):
            with contextlib.suppress(OSError):
                draft.replace(path)

    def announced(self) -> Announcement | None:
        """Return when this process has work of its own; None if nobody has asked for it."""
        try:
            read_at, *lines = self._work.read_text().splitlines()
            for line in lines:
                at, _, holder = line.partition(" ")
                if holder == self._holder:
                    return Announcement(int(read_at), int(at))
        except (OSError, ValueError):
            return None
        return None

    def call(self, holders: Iterable[str]) -> None:
        """Let these processes look by themselves once, such as those that are no members."""
        for holder in holders:
            if slot := self._slots.get(holder):
                with contextlib.suppress(OSError):
                    slot.path.unlink(missing_ok=True)

    def leave_observations(self, observed: Observations) -> None:
        """Write what this process has seen of the leases, for the one that looks after it."""
        if observed.seen or self._observed or self._observed is None:
            self._replace(self._leases, msgspec.json.encode(observed))
        self._observed = observed.seen

    def observations(self) -> Observations | None:
        """Return what another process has seen of the leases; None if it has left nothing."""
        try:
            return _observations.decode(self._leases.read_bytes())
        except (OSError, msgspec.MsgspecError):
            return None

    def forget_observations(self) -> None:
        """Remove what was seen of the leases: a look has failed."""
        self._observed = None
        with contextlib.suppress(OSError):
            self._leases.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the slot: this process ends."""
        self._mark.close()
        with contextlib.suppress(OSError):
            self._slot.unlink(missing_ok=True)

    def _living(self, now: Span) -> Iterator[tuple[str, _Slot]]:
        """Yield holder and slot of each process that has written its slot lately."""
        with contextlib.suppress(OSError):
            for slot in self._slot.parent.glob(f"*{_SLOTS}"):
                content = slot.read_bytes()
                if len(content) <= _SLOT.size or slot == self._slot:
                    continue
                (written_at,) = _SLOT.unpack_from(content)
                if 0 <= now - written_at < max(ALIVE, 2 * self.period):
                    holder, _, said = content[_SLOT.size :].partition(b"\n")
                    yield holder.decode(errors="replace"), _Slot(slot, _report_of(said))

    def _read(self) -> LookMark | None:
        content = self._mark.read(_MARK.size)
        if len(content) != _MARK.size:
            return None
        mark = LookMark(*_MARK.unpack(content))
        return mark if PERIOD <= mark.period <= _LONGEST_PERIOD else None


class _Reader:
    """Reads the beginning of a file that is kept open: a process reads the mark twice a second."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def read(self, size: int) -> bytes:
        """Return at most *size* bytes; none if there is no file."""
        try:
            if self._descriptor is not None and not os.fstat(self._descriptor).st_nlink:
                self.close()  # it was deleted
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            return os.pread(self._descriptor, size, 0)
        except OSError:
            return b""

    def close(self) -> None:
        """Close the file; the next call opens it again."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _write(path: Path, content: bytes, *, create: bool = True, more: int = 0) -> bool:
    """Overwrite a file; return whether that was possible."""
    flags = more | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        return False
    try:
        return os.write(descriptor, content) == len(content)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def open_host_look(member: Member, *, store: str, name: str) -> HostLook | None:
    """Return the mark of the processes that can look for *member*; None without a folder for it.

    Args:
        member: this process; others have the same machine and the same configuration.
        store: the store, without a password.
        name: `pulse.config.name`.

    """
    shared = own_folder(_SHARED)
    if not member.machine or not _SHARED.is_dir() or not is_usable(shared):
        return None
    if network_file_system(shared):
        return None
    key = repr((_FORMAT, member.machine, store, name, member.digest))
    folder = shared / hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    _remove_unused(shared, folder)
    return HostLook(folder, member)


def _remove_unused(shared: Path, used: Path) -> None:
    """Remove what ended processes have left: slots, and marks of earlier configurations."""
    for folder in shared.iterdir():
        with contextlib.suppress(OSError):
            for slot in folder.glob(f"*{_SLOTS}"):
                if not Path("/proc", slot.stem).exists():
                    slot.unlink(missing_ok=True)
            mark = folder / "mark"
            used_at = (mark if mark.exists() else folder).stat().st_mtime
            old = SystemClock().wall() / SECOND - used_at > _UNUSED_S
            if folder != used and old and not any(folder.glob(f"*{_SLOTS}")):
                for file in folder.iterdir():
                    file.unlink(missing_ok=True)
                folder.rmdir()
