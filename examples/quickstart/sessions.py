"""A small real app: it keeps sessions in SQLite and expires the old ones in a view.

`/` shows your session, or makes one; `/sessions/cleanup` deletes the sessions that have not been
used for a while. Nothing here knows pulse but the last view, which refuses everybody else.
"""

from __future__ import annotations

import secrets
import sqlite3
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from webob import Request, Response, exc

from pulse import is_run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from wsgiref.types import StartResponse, WSGIEnvironment

TABLE = "CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, visits INT, used REAL)"
BEGIN = "INSERT INTO sessions VALUES (?, 0, ?)"
VISIT = "UPDATE sessions SET visits = visits + 1, used = ? WHERE id = ? RETURNING visits"
EXPIRE = "DELETE FROM sessions WHERE used < ?"
PAGE = """<!doctype html>
<title>Sessions</title>
<p>Your session: {id}. Visits: {visits}. Sessions alive: {total}.
<p>One that is not used for {lifetime:g} seconds is deleted. Reload, or wait a while and look again.
"""


class Sessions:
    """Sessions in an SQLite file; a connection lives for one piece of work."""

    def __init__(self, path: Path, *, lifetime: float) -> None:
        self.path = path
        self.lifetime = lifetime
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.work() as connection:
            connection.execute(TABLE)

    @contextmanager
    def work(self) -> Iterator[sqlite3.Connection]:
        """Give a connection, commit at the end, roll back where something is raised."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            yield connection

    def begin(self) -> str:
        """Make a session and return its id."""
        session = secrets.token_hex(8)
        with self.work() as connection:
            connection.execute(BEGIN, (session, time.time()))
        return session

    def visit(self, session: str) -> int | None:
        """Count a visit and return how many there were; None for an unknown session."""
        with self.work() as connection:
            row = connection.execute(VISIT, (time.time(), session)).fetchone()
            return row and row[0]

    def total(self) -> int:
        """Return how many sessions are alive."""
        with self.work() as connection:
            return connection.execute("SELECT count(*) FROM sessions").fetchone()[0]

    def expire(self) -> int:
        """Delete the sessions that were not used for their lifetime; return how many."""
        limit = time.time() - self.lifetime
        with self.work() as connection:
            return connection.execute(EXPIRE, (limit,)).rowcount


class App:
    """The site: two views and their routes."""

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions
        self.routes = {"/": self.home, "/sessions/cleanup": self.cleanup}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request with the view that its path names."""
        request = Request(environ)
        view = self.routes.get(request.path_info, self.missing)
        return view(request)(environ, start_response)

    def home(self, request: Request) -> Response:
        """Show the visitor's session, or begin one."""
        session = request.cookies.get("session", "")
        visits = self.sessions.visit(session)
        if visits is None:
            session = self.sessions.begin()
            visits = self.sessions.visit(session)
        total, lifetime = self.sessions.total(), self.sessions.lifetime
        response = Response(PAGE.format(id=session, visits=visits, total=total, lifetime=lifetime))
        response.set_cookie("session", session, httponly=True, samesite="Lax")
        return response

    def cleanup(self, request: Request) -> Response:
        """Expire old sessions: the scheduled view. The guard in the ini is the first wall."""
        if not is_run(request.environ):
            return exc.HTTPForbidden("only pulse may request this")
        return Response(f"expired {self.sessions.expire()} sessions\n", content_type="text/plain")

    def missing(self, request: Request) -> Response:
        """Answer 404."""
        return exc.HTTPNotFound(f"nothing at {request.path_info}")


def make_app(_global_conf: Mapping[str, str], *, database: str, lifetime: str) -> App:
    """Make the site from its section of the ini file."""
    return App(Sessions(Path(database).resolve(), lifetime=float(lifetime)))
