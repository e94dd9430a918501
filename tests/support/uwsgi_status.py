"""The state of the workers of uWSGI, as uWSGI reports it."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, NamedTuple

from tests.support.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.servers import Server

OPTION = "--stats"


class Worker(NamedTuple):
    """A worker, as its master sees it."""

    pid: int
    accepting: bool
    status: str


def status_options() -> list[str]:
    """Return the arguments with which uWSGI reports its state on a port."""
    return [OPTION, f"127.0.0.1:{free_port()}"]


def wait_accepting(server: Server, count: int) -> None:
    """Return once so many workers are past their hooks, and no request is open in any.

    uWSGI takes a signal badly before and in between: it waits for a worker that is still in its
    hook until its mercy ends, and one whose request is not closed runs no exit handlers.
    """

    def all_idle() -> bool:
        workers = _workers(server)
        return len(workers) == count and all(w.accepting and w.status == "idle" for w in workers)

    server.wait_for(all_idle, what=f"{count} workers accept")


def _workers(server: Server) -> Sequence[Worker]:
    host, port = server.command[server.command.index(OPTION) + 1].split(":")
    with socket.create_connection((host, int(port)), timeout=10) as line, line.makefile() as text:
        told = json.load(text)["workers"]
    return [Worker(w["pid"], bool(w["accepting"]), w["status"]) for w in told if w["pid"]]
