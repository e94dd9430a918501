"""Injects the planned faults into a fleet, and records them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from threading import Lock, Thread
from typing import TYPE_CHECKING

from tests.chaos.artifacts import KILLS, SECOND, Fault
from tests.chaos.fleet import now
from tests.chaos.inject_queue import QueueInjector
from tests.chaos.scenario import LEASE_S
from tests.support.servers import Answer, is_alive, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.chaos.fleet import Fleet, Host
    from tests.chaos.scenario import Planned

STOPPED_S = 2.0 * LEASE_S
BLOCKED_S = 3.0
PAUSED_S = 2.5
ARMED_S = 6.0
SPOILED_S = 2.0


class Processes:
    """Stops, continues and kills processes, and records faults in a list."""

    def __init__(self, done: list[Fault]) -> None:
        self._done = done
        self._suspended: set[int] = set()
        self._suspending = Lock()

    def note(self, kind: str, began: int, pids: tuple[int, ...] = (), *, ended: int = 0) -> None:
        """Record a fault that is over now, or was at *ended*."""
        self._done.append(Fault(kind, began, ended or now(), pids))

    def suspend(self, pids: Sequence[int]) -> list[int]:
        """Stop processes, but for those that another fault has stopped; return the others."""
        with self._suspending:
            running = [pid for pid in pids if pid not in self._suspended and not _is_stopped(pid)]
            stopped = [pid for pid in running if self.send(pid, SIGSTOP)]
            self._suspended.update(stopped)
        return stopped

    def resume(self, pids: Sequence[int]) -> int:
        """Continue processes that `suspend` has stopped; return the instant before that."""
        alive, ended = [pid for pid in pids if is_alive(pid)], now()
        for pid in alive:
            self.send(pid, SIGCONT)
        self._suspended.difference_update(pids)
        return ended

    def send(self, pid: int, number: int) -> bool:
        """Send a signal, and return whether the process was there."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True


class Injector:
    """Performs planned faults on time; long faults continue during the next ones."""

    def __init__(self, fleet: Fleet, say: Callable[[str], None]) -> None:
        self.done: list[Fault] = []
        self._fleet = fleet
        self._say = say
        self._store = Lock()
        self._processes = Processes(self.done)
        self._ways: dict[str, Callable[[Planned], None]] = {
            "kill": self._kill,
            "kill-looker": self._kill_looker,
            "stop": self._stop,
            "stop-lookers": self._stop_lookers,
            "stop-after-claim": self._stop_itself,
            "block": self._block,
            "hup": self._reload,
            "restart": self._restart,
            "kill-master": self._kill_master,
            "mark-delete": self._delete_mark,
            "mark-truncate": self._truncate_mark,
            "mark-read-only": self._make_mark_read_only,
            "store-pause": self._pause_store,
            "store-restart": self._restart_store,
        }
        if fleet.post is not None:
            self._ways |= QueueInjector(fleet, fleet.post, self._processes).ways

    def perform(self, planned: Sequence[Planned]) -> None:
        """Perform all faults, and return when the last one is over."""
        began = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            going = []
            for one in planned:
                time.sleep(max(0.0, began + one.at_s - time.monotonic()))
                going.append(pool.submit(self._do, one))
            for each in going:
                each.result()

    def _do(self, one: Planned) -> None:
        self._say(f"{one.at_s:6.2f} s  {one.kind} (host {one.host})")
        self._ways.get(one.kind, self._die_itself)(one)

    def _note(self, kind: str, began: int, pids: tuple[int, ...] = ()) -> None:
        self._processes.note(kind, began, pids)

    def _host(self, one: Planned) -> Host:
        return self._fleet.hosts[one.host]

    # A worker ----------------------------------------------------------------------------

    def _victim(self, one: Planned) -> int | None:
        workers = self._fleet.workers()
        return workers[int(one.dice * len(workers))] if workers else None

    def _kill(self, one: Planned) -> None:
        pid, began = self._victim(one), now()
        if pid is not None and self._processes.send(pid, SIGKILL):
            self._note("kill", began, (pid,))

    def _kill_looker(self, one: Planned) -> None:
        pid, began = self._host(one).looker(), now()
        if pid in self._fleet.workers() and self._processes.send(pid, SIGKILL):
            self._note("kill-looker", began, (pid,))

    def _die_itself(self, one: Planned) -> None:
        """Lay the command, and remove it if no process obeyed in time."""
        if one.kind not in KILLS:
            raise AssertionError(f"no way to do {one.kind}")
        self._arm(one.kind)

    def _arm(self, kind: str) -> bool:
        arm = self._fleet.ground.arms / kind
        arm.touch()
        deadline = time.monotonic() + ARMED_S
        while arm.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            arm.unlink()
        except FileNotFoundError:
            return True
        return False

    def _stop(self, one: Planned) -> None:
        pid, began = self._victim(one), now()
        if pid is not None and self._processes.suspend([pid]):
            self._resume_later("stop", began, pid)

    def _stop_lookers(self, one: Planned) -> None:
        """Stop the worker that looks at the store, and another one of its host."""
        host, began = self._host(one), now()
        looker = host.looker()
        workers = host.server.workers()
        if looker not in workers:
            return
        others = [pid for pid in workers if pid != looker]
        if stopped := self._processes.suspend([looker, *others[:1]]):
            self._resume_later("stop-lookers", began, *stopped)

    def _stop_itself(self, one: Planned) -> None:
        known = len(self._fleet.lines())
        if not self._arm(one.kind):
            return

        def victim() -> list[int]:
            new = self._fleet.lines()[known:]
            return [line.pid for line in new if line.what == "victim" and line.point == one.kind]

        pid = wait_until(victim, what="the victim says so")[0]
        self._resume_later(one.kind, now() - 100_000, pid)

    def _resume_later(self, kind: str, began: int, *pids: int) -> None:
        held_s = self._held_s()
        time.sleep(STOPPED_S)
        self._processes.note(kind, began, pids, ended=self._processes.resume(pids))
        self._note_held(began, held_s)

    def _held_s(self) -> float:
        time.sleep(0.2)
        with self._store:
            return self._fleet.storage.held_s()

    def _note_held(self, began: int, held_s: float) -> None:
        if held_s:
            ended = min(now(), began + round(held_s * SECOND))
            self.done.append(Fault("stop-in-write", began, ended))

    def _probe(self, began: int) -> None:
        held_s = min(self._held_s(), BLOCKED_S)
        time.sleep(held_s)
        self._note_held(began, held_s)

    def _block(self, one: Planned) -> None:
        """Ask some worker to block its process; the app itself reports which, and for how long."""
        probe = Thread(target=self._probe, args=(now(),))
        probe.start()
        self._ask(self._host(one), f"/block?s={BLOCKED_S}")
        probe.join()

    def _ask(self, host: Host, path: str) -> Answer | None:
        try:
            return host.server.get(path, timeout=15)
        except OSError:
            return None

    # The mark of a host ------------------------------------------------------------------

    def _delete_mark(self, one: Planned) -> None:
        self._spoil(one, Path.unlink)

    def _truncate_mark(self, one: Planned) -> None:
        self._spoil(one, lambda mark: mark.write_bytes(b""))

    def _spoil(self, one: Planned, spoil: Callable[[Path], object]) -> None:
        """Spoil the mark again and again for a while; a process that looks makes it good."""
        host, began = self._host(one), now()
        while now() < began + SPOILED_S * SECOND:
            mark = host.mark()
            if mark is not None:
                with contextlib.suppress(OSError):
                    spoil(mark)
            time.sleep(0.05)
        self._note(one.kind, began)

    def _make_mark_read_only(self, one: Planned) -> None:
        """Keep all processes of the host from writing in the folder of the mark for a while."""
        if not self._fleet.separate:
            return
        host = self._host(one)
        with host.busy:  # a master that is being replaced has no file system any more
            pid, began = host.server.pid, now()
            wait_until(lambda: _remount(pid, "ro"), what="no process writes the mark")
        time.sleep(SPOILED_S)
        _remount(pid, "rw")
        self._note(one.kind, began)

    # A master ----------------------------------------------------------------------------

    def _reload(self, one: Planned) -> None:
        host = self._host(one)
        with host.busy:
            began = now()
            self._note("hup", began, host.reload())
            host.settle()

    def _restart(self, one: Planned) -> None:
        host = self._host(one)
        with host.busy:
            host.settle()
            began, workers = now(), tuple(host.server.workers())
            host.restart()
            self._note("restart", began, workers)
            host.settle()

    def _kill_master(self, one: Planned) -> None:
        host = self._host(one)
        with host.busy:
            began, workers = now(), tuple(host.server.workers())
            host.kill()
            self._note("kill-master", began, workers)
            host.settle()

    # The store ---------------------------------------------------------------------------

    def _pause_store(self, one: Planned) -> None:
        with self._store:
            began = now()
            self._fleet.storage.pause(PAUSED_S + one.dice)
            self._note(one.kind, began)

    def _restart_store(self, one: Planned) -> None:
        with self._store:
            began = now()
            self._fleet.storage.restart()
            self._note(one.kind, began)


def _is_stopped(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "T"


def _remount(pid: int, mode: str) -> bool:
    """Let the file system in memory of a host be writable or not; False while a file is open."""
    inside = ("nsenter", "--target", str(pid), "--mount")
    command = [*inside, "mount", "-o", f"remount,{mode}", "/dev/shm"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
