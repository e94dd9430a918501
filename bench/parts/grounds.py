"""Where the processes of a benchmark meet: nowhere, a file, or a private server with fsync on.

The servers are those of `tests.support`, which are ended by pid. A ground also tells how much CPU
its server has used: what runs in the processes of pulse itself is theirs.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Memory:
    """Nothing is shared."""

    name = "memory, each by itself"

    def fresh(self) -> str:
        return "memory:"

    def cpu(self) -> float:
        return 0.0

    def close(self) -> None:
        pass


class Sqlite:
    """Files in a temporary folder, on whatever disk that is."""

    name = "sqlite"

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._made = 0

    def fresh(self) -> str:
        self._made += 1
        return f"sqlite:///{self._folder.name}/{self._made}.db"

    def cpu(self) -> float:
        return 0.0

    def close(self) -> None:
        self._folder.cleanup()


class Postgres:
    """A cluster of its own, and a database for each measurement."""

    name = "postgres"

    def __init__(self, *, connections: int = 60) -> None:
        from tests.support.postgres import PostgresCluster

        self.cluster = PostgresCluster(fsync=True, connections=connections)
        self._made = 0

    def fresh(self) -> str:
        self._made += 1
        self.cluster.run(f"CREATE DATABASE bench_{self._made}")
        self.cluster.run("CHECKPOINT")
        return self.cluster.url(f"bench_{self._made}")

    def cpu(self) -> float:
        """Return what the server and all its children have used, those that have ended too."""
        pid = int((self.cluster.folder / "data" / "postmaster.pid").read_text().split()[0])
        return _cpu_of(pid, ended=True) + sum(map(_cpu_of, _children_of(pid)))

    def close(self) -> None:
        self.cluster.close()


class Redis:
    """A server of its own that answers when its log is on the disk, emptied each time."""

    name = "redis"

    def __init__(self) -> None:
        from tests.support.redis_servers import RedisServer

        self._folder = tempfile.TemporaryDirectory()
        self.server = RedisServer(Path(self._folder.name))

    def fresh(self) -> str:
        self.server.ask("FLUSHALL")
        return self.server.url

    def cpu(self) -> float:
        lines = self.server.ask("INFO", "cpu").decode().splitlines()
        found = dict(line.split(":") for line in lines if ":" in line)
        return float(found["used_cpu_sys"]) + float(found["used_cpu_user"])

    def close(self) -> None:
        self.server.kill()
        self._folder.cleanup()


GROUNDS = {"memory": Memory, "sqlite": Sqlite, "postgres": Postgres, "redis": Redis}


def _children_of(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _cpu_of(pid: int, *, ended: bool = False) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11 : 15 if ended else 13])) * TICK_S
