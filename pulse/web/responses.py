"""Responses of the addresses that pulse serves: JSON, problems (RFC 9457), and plain words."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIEnvironment

SECURE_HEADERS = (
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Robots-Tag", "noindex"),
)
"""Sent with each response."""


NO_CONTENT_POLICY = "default-src 'none'; frame-ancestors 'none'"
"""The policy of responses that are no pages."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a request, or keeps it from being answered.

    Attributes:
        title: the phrase of the status.
        status: the HTTP status.
        detail: a sentence that names what was expected and what came.

    """

    title: str
    status: int
    detail: str


class HttpAnswer(msgspec.Struct, frozen=True):
    """A response.

    Attributes:
        status: the HTTP status.
        body: the content.
        content_type: its type; empty for a response without content.
        headers: further headers.
        policy: what the content may load (Content Security Policy).
        caching: who may keep the content, and for how long.

    """

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    policy: str = NO_CONTENT_POLICY
    caching: str = "no-store"

    def send(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Send the response; without its body for HEAD (RFC 9110, 9.3.2)."""
        phrase = HTTPStatus(self.status).phrase
        content = [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
        ]
        headers = [
            *(content if self.content_type else []),
            ("Cache-Control", self.caching),
            ("Content-Security-Policy", self.policy),
            *SECURE_HEADERS,
            *self.headers,
        ]
        start_response(f"{self.status} {phrase}", headers)
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [self.body]


class HttpError(Exception):
    """A request that is answered by a problem.

    Args:
        status: the HTTP status.
        detail: what was expected, and what came.
        headers: further headers of the response.

    """

    def __init__(self, status: int, detail: str, *headers: tuple[str, str]) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers

    def answer(self) -> HttpAnswer:
        """Return the response."""
        return problem_answer(self.status, self.detail, self.headers)


def json_answer(document: object, *, status: int = 200) -> HttpAnswer:
    """Return a JSON document as a response."""
    return HttpAnswer(status, msgspec.json.encode(document))


def problem_answer(
    status: int, detail: str, headers: tuple[tuple[str, str], ...] = ()
) -> HttpAnswer:
    """Return a problem as a response."""
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail)
    body = msgspec.json.encode(problem)
    return HttpAnswer(status, body, "application/problem+json", headers)


def text_answer(status: int, word: str) -> HttpAnswer:
    """Return a word as a response."""
    return HttpAnswer(status, f"{word}\n".encode(), "text/plain; charset=utf-8")


def path_of(environ: Mapping[str, Any]) -> str:
    """Return the path below the mounted address, as text.

    Raises:
        HttpError: it is no UTF-8.

    """
    raw: str = environ.get("PATH_INFO", "")
    try:
        return raw.encode("latin-1").decode("utf-8")
    except (UnicodeDecodeError, UnicodeEncodeError):
        raise HttpError(404, "expected a path in UTF-8, got other bytes") from None
