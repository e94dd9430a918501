"""What a child process and its parent say to each other, and how it is framed.

Each message is one JSON text after its length in four bytes. The parent opens with an `Opening`,
the child answers `Readiness` once it has loaded the application; from then on each `Errand` is
answered by one `Result`. Whoever closes the line ends the child.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar, cast

import msgspec

from pulse.clock import Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.run import Claim, Run
from pulse.core.runtime_task import Usual
from pulse.core.task import Definition

if TYPE_CHECKING:
    import socket

    from pulse.schedule.base import Schedule

M = TypeVar("M")

_LENGTH = struct.Struct("!I")


class LineClosedError(Exception):
    """The other side has closed the line, or is gone."""


class StoreSetup(msgspec.Struct, frozen=True, kw_only=True):
    """Where the parent's store is, and who the parent is there.

    Attributes:
        word: `pulse.config.store`; None stands for the default.
        name: `pulse.config.name`.
        origin: the ini file, or the working directory.
        holder: the parent's name among the members.

    """

    word: str | None
    name: str | None
    origin: str
    holder: str


class ChildSetup(msgspec.Struct, frozen=True, kw_only=True):
    """How a child process finds the application, and the middleware in it that its parent is.

    Attributes:
        application: `package.module:name` of a WSGI application; it goes before *paste_uri*.
        paste_uri: `config:/path/app.ini`, as PasteDeploy wants it.
        paste_section: the section of that file which holds the application.
        global_conf: what PasteDeploy gave to the parent.
        digest: of the parent's settings.
        base_url: scheme, host, port and script name of the calls.
        usual: what tasks that a view adds take from the parent's configuration.
        store: what views ask when they use the handle; None where they have none to ask.

    """

    application: str = ""
    paste_uri: str = ""
    paste_section: str = "main"
    global_conf: dict[str, str] = {}
    digest: str = ""
    base_url: str = "http://localhost"
    usual: Usual = Usual()
    store: StoreSetup | None = None


class Opening(msgspec.Struct, frozen=True, kw_only=True):
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


class Readiness(msgspec.Struct, frozen=True):
    """The child's answer to `Opening`: the traceback of what kept it from loading, or nothing."""

    problem: str = ""


class Errand(msgspec.Struct, frozen=True, kw_only=True):
    """A claim as a child needs it: all but the schedule, which is the parent's business.

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


def errand_of(claim: Claim, *, overdue_at: Span) -> Errand:
    """Return what a child must know of *claim*."""
    call = {field: getattr(claim.definition, field) for field in _CALL_FIELDS}
    return Errand(run=claim.run, good_until=claim.good_until, overdue_at=overdue_at, **call)


def claim_of(errand: Errand) -> Claim:
    """Return the claim again; its definition has no schedule, for nothing is planned in a child."""
    call = {field: getattr(errand, field) for field in _CALL_FIELDS}
    definition = Definition(schedule=cast("Schedule", None), **call)
    return Claim(errand.run, definition, errand.good_until)


def speakable(text: str) -> str:
    """Return *text* with what UTF-8 cannot carry (lone surrogates) spelt out."""
    return text.encode(errors="backslashreplace").decode()


def send(line: socket.socket, message: msgspec.Struct) -> None:
    """Send one message.

    Raises:
        LineClosedError: the other side is gone.

    """
    text = msgspec.json.encode(message)
    try:
        line.sendall(_LENGTH.pack(len(text)) + text)
    except (BrokenPipeError, ConnectionResetError) as gone:
        raise LineClosedError from gone


def receive(line: socket.socket, kind: type[M]) -> M:
    """Return the next message, which is of that kind.

    Raises:
        LineClosedError: the other side has closed the line, or is gone.
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
            raise LineClosedError from gone
        if not part:
            raise LineClosedError
        parts += part
    return bytes(parts)
