"""The messages between a child process and its parent, and their framing.

Each message is one JSON text after its length in four bytes. The parent opens with an `Hello`,
the child answers `Ready` once it has loaded the application; after that it answers each
`RunRequest` with one `Result`. The child ends when either side closes the line.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from pulse.clock import Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.run import Claim, Run
from pulse.core.runtime_task import TaskDefaults
from pulse.core.task import TaskDefinition
from pulse.errors import shown_url

if TYPE_CHECKING:
    import socket

    from pulse.schedule.base import Schedule

M = TypeVar("M")

_LENGTH = struct.Struct("!I")


class ConnectionClosedError(Exception):
    """The other side has closed the line, or is gone."""


class MiddlewareFingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """Identifies a middleware in another process that loads the same application.

    Attributes:
        name: `pulse.config.name`, where it is set.
        store: `pulse.config.store`, where it is set.
        digest: of the tasks, and of what all calls have in common.
        application: `pulse.config.application`, where it is set; it decides between several only,
            for another configuration may leave it out.

    """

    name: str | None = None
    store: str | None = None
    digest: str = ""
    application: str | None = None

    def resembles(self, other: MiddlewareFingerprint) -> bool:
        """Return whether the two may be the same middleware."""
        return (self.name, self.store, self.digest) == (other.name, other.store, other.digest)


class StoreSetup(msgspec.Struct, frozen=True, kw_only=True):
    """Where a store is, and the name that a process without a scheduler has in it.

    Attributes:
        url: `pulse.config.store`; None is the default.
        name: `pulse.config.name`.
        origin: the ini file, or the working directory.
        holder: the name of its parent among the members; empty for a process without a parent.
        creates: whether tables are created where there are none.

    """

    url: str | None
    name: str | None
    origin: str
    holder: str
    creates: bool = True

    def __repr__(self) -> str:
        """Return the values without a password: error reports show locals."""
        url = self.url and shown_url(self.url)
        return f"StoreSetup({url=}, name={self.name!r}, holder={self.holder!r})"


class ChildSetup(msgspec.Struct, frozen=True, kw_only=True):
    """How a child process finds the application, and its parent's middleware in it.

    Attributes:
        application: `package.module:name` of a WSGI application, or of its factory with `()`; it
            goes before *paste_uri*.
        paste_uri: `config:/path/app.ini`, as PasteDeploy wants it.
        paste_section: the section of that file which holds the application.
        relative_to: the folder that a relative *paste_uri* counts from.
        global_conf: what PasteDeploy is passed.
        chosen: whether the setting names the section; else the server has loaded it.
        fingerprint: identifies the parent's middleware in the application.
        base_url: scheme, host, port and script name of the calls.
        defaults: what tasks that a view adds take from the parent's configuration.
        store: what views ask when they use the handle; None where they have none to ask.

    """

    application: str = ""
    paste_uri: str = ""
    paste_section: str = "main"
    relative_to: str = ""
    global_conf: dict[str, str] = {}
    chosen: bool = False
    fingerprint: MiddlewareFingerprint = MiddlewareFingerprint()
    base_url: str = "http://localhost"
    defaults: TaskDefaults = TaskDefaults()
    store: StoreSetup | None = None

    @property
    def where(self) -> str:
        """Return a description of what is loaded, for error messages."""
        return self.application or f"section {self.paste_section} of {self.paste_uri}"


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The first message to a child.

    Attributes:
        parent: the process id of the parent.
        search_path: the parent's `sys.path`.
        pythonpath: the parent's variable of that name, which the child's own start had to replace.

    """

    setup: ChildSetup
    parent: int
    search_path: list[str]
    pythonpath: str | None


class Ready(msgspec.Struct, frozen=True):
    """The child's answer to `Hello`: what kept it from loading, or nothing.

    Attributes:
        problem: a traceback.
        summary: the same in one sentence, which names the setting.

    """

    problem: str = ""
    summary: str = ""


class RunRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A claim as a child needs it: everything but the schedule, which only the parent uses.

    Attributes:
        overdue_at: the instant of the boot clock, one for the whole host, when its timeout is over.

    """

    run: Run
    good_until: Span
    overdue_at: Span
    name: str
    path: str
    query: str
    digest: str
    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    timeout_us: Span


_CALL_FIELDS = ("name", "path", "query", "digest", "method", "headers", "body", "timeout_us")


def run_request(claim: Claim, *, overdue_at: Span) -> RunRequest:
    """Return the request to perform *claim*."""
    call = {field: getattr(claim.definition, field) for field in _CALL_FIELDS}
    return RunRequest(run=claim.run, good_until=claim.good_until, overdue_at=overdue_at, **call)


def requested_claim(request: RunRequest) -> Claim:
    """Return the claim again; its definition has no schedule, for nothing is planned in a child."""
    call = {field: getattr(request, field) for field in _CALL_FIELDS}
    definition = TaskDefinition(schedule=cast("Schedule", None), **call)
    return Claim(request.run, definition, request.good_until)


def encodable(text: str) -> str:
    """Return *text* with what UTF-8 cannot carry (lone surrogates) spelt out."""
    return text.encode(errors="backslashreplace").decode()


def send(line: socket.socket, message: msgspec.Struct) -> None:
    """Send one message.

    Raises:
        ConnectionClosedError: the other side is gone.

    """
    text = msgspec.json.encode(message)
    try:
        line.sendall(_LENGTH.pack(len(text)) + text)
    except (BrokenPipeError, ConnectionResetError) as gone:
        raise ConnectionClosedError from gone


def receive(line: socket.socket, kind: type[M]) -> M:
    """Return the next message, which is of that kind.

    Raises:
        ConnectionClosedError: the other side has closed the line, or is gone.
        TimeoutError: the line has a timeout, and nothing came in that time.

    """
    (length,) = _LENGTH.unpack(_read(line, _LENGTH.size))
    return msgspec.json.decode(_read(line, length), type=kind)


def _read(line: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        try:
            part = line.recv(length - len(parts))
        except ConnectionResetError as gone:
            raise ConnectionClosedError from gone
        if not part:
            raise ConnectionClosedError
        parts += part
    return bytes(parts)
