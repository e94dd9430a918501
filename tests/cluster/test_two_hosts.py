"""Two hosts of one fleet: masters that have nothing in common but their store.

Each runs in PID and UTS namespaces of its own, so that neither can see the other's processes nor
share its name: what a host that vanished has left behind is known by its leases alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from signal import SIGKILL, SIGTERM
from typing import TYPE_CHECKING

import pytest

from tests.support.postgres import missing
from tests.support.probe_log import begins, grid_between, read_notes
from tests.support.redis_servers import empty_redis
from tests.support.servers import ROOT, Server, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from tests.support.postgres import PostgresCluster
    from tests.support.probe_log import Note

pytestmark = pytest.mark.server

LEASE_S = 3.0
NAP_S = 1.5
OWN_PROC = 'mount --make-private /proc && mount -t proc proc /proc && exec "$@"'
NAMESPACES = [
    *("unshare", "--pid", "--uts", "--mount", "--propagation", "unchanged", "--fork"),
    *("--kill-child", "sh", "-c", OWN_PROC, "sh"),
]
"""In a chroot `/`, whose propagation `--mount-proc` changes, is no mount point; `/proc` is one."""


class Host:
    """A gunicorn master with two workers in namespaces of its own."""

    def __init__(self, name: str, folder: Path, store: str) -> None:
        self.name = name
        self.evidence = folder / f"{name}.jsonl"
        self._home = folder / name
        self._home.mkdir()
        port = free_port()
        master = [sys.executable, "-m", "gunicorn", "-k", "gevent", "-w", "2"]
        master += ["-b", f"127.0.0.1:{port}", "--no-control-socket", "--pythonpath", str(ROOT)]
        named = ["sh", "-c", 'hostname "$0" && exec "$@"', name]
        settings = {
            "pulse.config.context": "tick",
            "pulse.config.mode": "gevent",
            "pulse.config.store": store,
            "pulse.config.lease": f"{LEASE_S:g}s",
            "pulse.task.now.action": "now",
            "pulse.task.now.interval": "1s",
            "pulse.task.nap.action": "nap",
            "pulse.task.nap.interval": "1s",
            "pulse.task.cache.action": "cache",
            "pulse.task.cache.interval": "1s",
            "pulse.task.cache.scope": "host",
        }
        environ = {
            "EVIDENCE": str(self.evidence),
            "NAP": str(NAP_S),
            "SETTINGS": json.dumps(settings),
        }
        command = [*NAMESPACES, *named, *master, "tests.support.evidence_app:application"]
        self.server = Server(command, port=port, folder=self._home, environ=environ)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *told: object) -> None:
        for master in self.server.workers():
            self.server.signal(SIGTERM, master)
            self.server.wait_ended()
        self.server.__exit__(*told)  # type: ignore[arg-type] # passed on as they came

    def vanish(self) -> None:
        """Kill the whole host at once, like a power cut."""
        self.server.signal(SIGKILL)
        self.server.wait_ended()

    def begins(self, task: str) -> list[Note]:
        """Return the runs of a task that started here."""
        return [note for note in begins(read_notes(self.evidence)) if note.task == task]

    def is_napping(self) -> bool:
        """Return whether a run of `nap` has just started here and is not finished."""
        notes = [note for note in read_notes(self.evidence) if note.task == "nap"]
        return bool(notes) and notes[-1].what == "begin"


@pytest.fixture(params=["postgres", "redis"])
def hosts(
    request: pytest.FixtureRequest, tmp_path: Path, postgres_cluster: PostgresCluster
) -> Iterator[tuple[Host, Host]]:
    """Return two hosts that share a store."""
    probe = subprocess.run([*NAMESPACES, "true"], check=False, capture_output=True, text=True)
    if probe.returncode:
        missing(f"no namespaces of its own can be had here: {probe.stderr.strip()}")
    if request.param == "redis":
        store = empty_redis().url
    else:
        postgres_cluster.forget_applications()
        store = postgres_cluster.url()
    with ExitStack() as stack:
        alpha, beta = (
            stack.enter_context(Host(name, tmp_path, store)) for name in ("alpha", "beta")
        )
        wait_until(lambda: alpha.begins("cache") and beta.begins("cache"), what="both take part")
        yield alpha, beta


def test_each_tick_runs_once_across_hosts(hosts: tuple[Host, Host]) -> None:
    """A task of the fleet runs on one host, a task with `scope = host` on each."""
    alpha, beta = hosts

    def ran(task: str) -> list[str]:
        return sorted(note.fire_time for host in hosts for note in host.begins(task))

    known = len(ran("now"))
    wait_until(lambda: len(ran("now")) >= known + 6, what="six ticks")
    times = ran("now")
    assert times == grid_between(times[0], times[-1], 1)
    mine, other = ([note.fire_time for note in host.begins("cache")] for host in (alpha, beta))
    last = min(mine[-1], other[-1])
    for own in (mine, other):
        assert [time for time in own if time <= last] == grid_between(own[0], last, 1)


def test_tasks_of_a_vanished_host_continue_after_its_lease(
    hosts: tuple[Host, Host],
) -> None:
    """They continue within a second after the lease, and not before."""
    victim = wait_until(lambda: next((host for host in hosts if host.is_napping()), None))
    (survivor,) = (host for host in hosts if host is not victim)
    held = victim.begins("nap")[-1]
    victim.vanish()
    begun = {note.run for note in survivor.begins("nap")}

    def later() -> list[Note]:
        return [note for note in survivor.begins("nap") if note.run not in begun]

    (first, *_) = survivor.server.wait_for(later, 3 * LEASE_S, "nap goes on elsewhere")
    assert held.at + LEASE_S < first.at
    # The lease counts from its last renewal; the next fire time is a second off at most.
    assert first.at < held.at + NAP_S + LEASE_S + 2
    assert held.run not in {note.run for note in survivor.begins("nap")}
    why = "its holder did not renew the lease"
    told = f"nap {held.fire_time} abandoned: {why}, {victim.name}:"
    survivor.server.wait_for(lambda: told in survivor.server.log_text(), 5, "it is told of")
