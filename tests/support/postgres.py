"""Private PostgreSQL servers and poolers: started on a free port, killed, started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

from pulse.store.postgres.schema import schema_of
from tests.support.requires_server import missing
from tests.support.servers import free_port

BOUND_S = 30
_SCHEMAS = "SELECT nspname FROM pg_namespace WHERE nspname ~ '^pulse_'"
_TABLES = (
    "SELECT schemaname, tablename FROM pg_tables"
    " WHERE schemaname ~ '^pulse_' AND tablename <> 'layout'"
)
_ACCOUNT = "postgres"


def find_binary(name: str) -> str:
    """Return the path of a program that Debian does not install into PATH."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    found = shutil.which(name, path=os.pathsep.join(map(str, places)))
    found = found or shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
    if found is None:
        missing(f"{name} is not installed")
    return str(found)


def as_account() -> dict[str, object]:
    """Return the options of `Popen` for a program that refuses to run as root."""
    return {"user": _ACCOUNT, "group": _ACCOUNT, "extra_groups": []} if os.geteuid() == 0 else {}


def own(folder: Path) -> None:
    """Give a folder to the account that servers run as."""
    if os.geteuid() == 0:
        shutil.chown(folder, _ACCOUNT, _ACCOUNT)


class PostgresCluster:
    """One server with its own data, ended by pid.

    Args:
        fsync: whether commits wait for the disk, as they do when speed is measured.
        connections: how many clients it admits at once.

    """

    def __init__(self, *, fsync: bool = False, connections: int = 60) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pulse-pg-"))
        self.port = free_port()
        self._fsync = fsync
        self._connections = connections
        self._server: subprocess.Popen[bytes] | None = None
        self.user = _ACCOUNT if os.geteuid() == 0 else os.environ.get("USER", _ACCOUNT)
        own(self.folder)
        command = [find_binary("initdb"), "-A", "trust", "-U", self.user, "-E", "UTF8", "-N"]
        subprocess.run(
            [*command, "--locale=C", "-D", str(self.folder / "data")],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
            **as_account(),  # type: ignore[call-overload]
        )
        self.start()

    def url(self, database: str = "postgres", *, port: int | None = None) -> str:
        """Return the URL of a database."""
        return f"postgresql://{self.user}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self.folder,
            "fsync": "on" if self._fsync else "off",
            "max_connections": self._connections,
            "shared_buffers": "64MB",
            "logging_collector": "off",
            "log_line_prefix": "%n ",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [find_binary("postgres"), "-D", str(self.folder / "data"), *words],
                stdout=log,
                stderr=log,
                cwd="/",
                **as_account(),  # type: ignore[call-overload]
            )
        self.until_it_answers()

    def until_it_answers(self) -> None:
        """Wait until the server accepts connections."""
        end = time.monotonic() + BOUND_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop the server at once, as `pg_ctl stop -m immediate` does."""
        if self._server is not None:
            self._server.send_signal(how)
            self._server.wait(BOUND_S)
            self._server = None

    def ready_at(self) -> float:
        """Return the time from which the server accepts connections, according to its log."""
        lines = (self.folder / "log").read_text().splitlines()
        ready = [line for line in lines if "database system is ready" in line]
        return float(ready[-1].split()[0])

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a connection for the test."""
        return psycopg.connect(self.url(), autocommit=True)

    def run(
        self, text: str, *values: object, database: str = "postgres"
    ) -> list[tuple[object, ...]]:
        """Execute a statement; return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as raw:
            cursor = raw.execute(text.encode(), values or None)
            return cursor.fetchall() if cursor.description else []

    def change(self, text: str, *values: object) -> None:
        """Execute a statement in the schema of the application whose name is empty."""
        self.run(text.replace("@", f"{schema_of('')}."), *values)

    def forget_applications(self) -> None:
        """Drop the schemas of all applications."""
        for (schema,) in self.run(_SCHEMAS):
            self.run(f"DROP SCHEMA {schema} CASCADE")

    def empty_applications(self) -> None:
        """Delete the rows of all applications, which is faster than to drop the schemas."""
        tables = self.run(_TABLES)
        if tables:
            self.run(";".join(f"DELETE FROM {schema}.{table}" for schema, table in tables))  # noqa: S608 - the names of pulse

    def close(self) -> None:
        """Stop the server and delete its data."""
        self.stop()
        shutil.rmtree(self.folder)


class Bouncer:
    """A PgBouncer before a cluster, which gives each transaction another session."""

    def __init__(self, cluster: PostgresCluster, *, sessions: int = 2) -> None:
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="pulse-pgb-"))
        config = self._folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={cluster.port}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {sessions}\n"
            "server_round_robin = 1\nunix_socket_dir =\nlogfile =\n"
        )
        config.write_text(
            config.read_text()
            .replace("* = ", f"* = user={cluster.user} ")
            .replace("logfile =\n", "")
        )
        own(self._folder)
        own(config)
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [find_binary("pgbouncer"), str(config)],
                stdout=log,
                stderr=log,
                cwd="/",
                **as_account(),  # type: ignore[call-overload]
            )
        self._until_it_answers(cluster)

    def _until_it_answers(self, cluster: PostgresCluster) -> None:
        end = time.monotonic() + BOUND_S
        while True:
            try:
                psycopg.connect(cluster.url(port=self.port), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise AssertionError((self._folder / "log").read_text()) from None
                time.sleep(0.05)
            else:
                return

    def close(self) -> None:
        """Stop the pooler."""
        self._process.terminate()
        self._process.wait(BOUND_S)
        shutil.rmtree(self._folder)
