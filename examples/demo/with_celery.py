"""Runs the demo with `mode = celery`: a broker, the web server, and a Celery worker.

    make demo MODE=celery

The broker is a RabbitMQ on free ports of 127.0.0.1, or a Redis server where RabbitMQ is not
installed. It is a process of the demo, and its data is in a temporary folder. Ctrl-C ends all
processes once the runs in progress have ended; a second Ctrl-C interrupts the runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

INI = "examples/demo/celery.ini"
WEB = ("gunicorn", "--config", "gunicorn.conf.py", "--paste", INI)
WORKER = ("pulse", "worker", INI, "--", "-c", "4")
BIN = Path(sys.executable).parent

FOLDERS = ("/usr/lib/rabbitmq/bin", "/usr/local/sbin", "/usr/sbin")
"""Where a broker may be outside PATH. /usr/sbin/rabbitmq-server is for the user rabbitmq alone, and
starts the one of the first folder."""

NO_BROKER = """\
make demo MODE=celery needs RabbitMQ or Redis on this machine, and found neither. On Debian and
Ubuntu: apt-get install rabbitmq-server, or apt-get install redis-server. The demo starts a broker
of its own; it does not use the service that such a package starts."""

START_S = 60
"""How many seconds a broker may take to start; RabbitMQ takes about five."""

END_S = 30
"""How many seconds the runs in progress may take to end."""

STOP_S = 10
"""How many seconds they may take once they are interrupted."""


class Broker(NamedTuple):
    """A broker that is installed: its URL, and the programs to start in this order."""

    name: str
    url: str
    port: int
    commands: Sequence[Sequence[str]]
    environ: Mapping[str, str] = {}


class Demo:
    """The processes of the demo, and how often somebody has asked to stop them."""

    def __init__(self) -> None:
        self.interrupts = 0
        self.site: dict[str, subprocess.Popen[bytes]] = {}
        self.broker: list[subprocess.Popen[bytes]] = []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupted)

    def _interrupted(self, *_: object) -> None:
        self.interrupts += 1

    def run(self, broker: Broker, folder: Path) -> int:
        """Start everything, and wait for Ctrl-C or for the end of a process; return the status."""
        try:
            if not self.start_broker(broker, folder / "broker.log"):
                return 0 if self.interrupts else 1
            self.start_site(broker.url)
            self.wait(lambda: any(one.poll() is not None for one in self.site.values()))
            for name, process in self.site.items():
                if process.returncode is not None:
                    say(f"{name} has ended with status {process.returncode}; the demo ends")
            return 0 if self.interrupts else 1
        finally:
            self.end()

    def start_broker(self, broker: Broker, log: Path) -> bool:
        """Start a broker; return whether it accepts connections."""
        say(f"{broker.name}, for this demo alone, starts on 127.0.0.1:{broker.port}")
        with log.open("wb") as output:
            for command in broker.commands:
                self.broker.append(start(command, broker.environ, output=output.fileno()))
        main = self.broker[-1]
        self.wait(lambda: accepts(broker.port) or main.poll() is not None, START_S)
        if accepts(broker.port) or self.interrupts:
            return not self.interrupts
        print(log.read_text(errors="replace"), file=sys.stderr)
        print(f"{broker.name} did not start; its output is above", file=sys.stderr)
        return False

    def start_site(self, broker: str) -> None:
        """Start the web server, which posts runs, and a worker, which executes them."""
        environ = {"CELERY_BROKER_URL": broker, "MODE": "celery"}
        say(f"export CELERY_BROKER_URL={broker} MODE=celery")
        for name, command in (("the worker", WORKER), ("the web server", WEB)):
            say(" ".join(command))
            self.site[name] = start((str(BIN / command[0]), *command[1:]), environ)

    def end(self) -> None:
        """End the worker and the web server, and then the broker."""
        before = self.interrupts
        if any(one.poll() is None for one in self.site.values()):
            say("stops once the runs in progress have ended; Ctrl-C interrupts them")
        for number, seconds in ((signal.SIGTERM, END_S), (signal.SIGQUIT, STOP_S)):
            for process in self.site.values():
                if process.poll() is None:
                    process.send_signal(number)
            self.wait(self.site_has_ended, seconds, since=before)
            before = self.interrupts
        for process in (*self.site.values(), *self.broker):
            kill_group(process)

    def site_has_ended(self) -> bool:
        """Return whether neither the worker nor the web server is left."""
        return all(one.poll() is not None for one in self.site.values())

    def wait(
        self, condition: Callable[[], bool], seconds: float = float("inf"), *, since: int = 0
    ) -> None:
        """Wait for a condition, for Ctrl-C, or until the time is over."""
        deadline = time.monotonic() + seconds
        while not (condition() or self.interrupts > since or time.monotonic() > deadline):
            time.sleep(0.1)


def say(text: str) -> None:
    """Print a line as make does."""
    print(f"==> {text}", flush=True)


def start(
    command: Sequence[str], environ: Mapping[str, str], *, output: int | None = None
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, so that Ctrl-C does not reach it."""
    return subprocess.Popen(  # noqa: S603 - the programs of the demo
        command,
        env=os.environ | environ,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        process_group=0,
    )


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that is left, and what it has started: a broker has nothing to keep."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def accepts(port: int) -> bool:
    """Return whether a port of 127.0.0.1 accepts connections."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def free_ports(number: int) -> list[int]:
    """Return ports of 127.0.0.1 on which nobody listens."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def find_broker(folder: Path) -> Broker | None:
    """Return a broker that is installed, with its data in *folder*; None for none."""
    path = os.pathsep.join((*FOLDERS, os.environ.get("PATH", "")))
    rabbitmq, epmd, redis = (
        shutil.which(name, path=path) for name in ("rabbitmq-server", "epmd", "redis-server")
    )
    if rabbitmq and epmd:
        return rabbitmq_of(rabbitmq, epmd, folder)
    return redis_of(redis, folder) if redis else None


def redis_of(program: str, folder: Path) -> Broker:
    """Return a Redis server that keeps nothing."""
    (port,) = free_ports(1)
    command = (program, *("--bind", "127.0.0.1"), *("--port", str(port)), *("--save", ""))
    return Broker("Redis", f"redis://127.0.0.1:{port}/0", port, [(*command, "--dir", str(folder))])


def rabbitmq_of(program: str, epmd: str, folder: Path) -> Broker:
    """Return a RabbitMQ that neither reads nor changes the files of the machine's own.

    RabbitMQ starts the program `epmd` unless it runs already, and never ends it. So the demo starts
    it, on a port of its own.
    """
    port, node_port, epmd_port = free_ports(3)
    (folder / "none").touch()
    (folder / "plugins").write_text("[].")
    environ = {
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd_port),
        "HOME": str(folder),  # where the cookie of Erlang is
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none.conf"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
        "RABBITMQ_DIST_PORT": str(node_port),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(folder / "generated"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_NODENAME": f"pulse{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(folder / "expanded"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
            "+S 1:1 +sbwt none -kernel inet_dist_use_interface {127,0,0,1}"
        ),
    }
    names = (epmd, "-address", "127.0.0.1", "-port", str(epmd_port))
    return Broker("RabbitMQ", f"amqp://127.0.0.1:{port}//", port, [names, (program,)], environ)


def main() -> int:
    """Run the demo; return its exit status."""
    with TemporaryDirectory(prefix="pulse-demo-") as folder:
        broker = find_broker(Path(folder))
        if broker is not None:
            return Demo().run(broker, Path(folder))
    print(NO_BROKER, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
