"""No malformed request line reaches a guarded view through a real server and framework."""

from __future__ import annotations

import random
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote_from_bytes

import pytest

from tests.support.guarded_site import OTHER, REACHED, SITES
from tests.support.servers import Server, free_port, program

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.server

SITE = "tests.support.guarded_site:make_application()"
PYWSGI = """
from gevent import monkey; monkey.patch_all()
import sys
from tests.support import guarded_site
from gevent.pywsgi import WSGIServer
address = ("127.0.0.1", int(sys.argv[1]))
WSGIServer(address, guarded_site.make_application(), log=None).serve_forever()
"""

SPELLINGS = [
    b"/sessions/cleanup",
    b"//sessions/cleanup",
    b"///sessions/cleanup",
    b"http://h/sessions/cleanup",
    b"http://h//sessions/cleanup",
    b"/%2Fsessions/cleanup",
    b"sessions/cleanup",
    b"/sessions/cleanup/",
    b"/sessions/cleanup//",
    b"/sessions/cleanup%2F",
    b"/sessions/cleanup%0A",
    b"/sessions/cleanup%ff",
    b"/se%ffssions/%C3cleanup",
    b"/sessions//cleanup",
    b"/sessions/%2Fcleanup",
    b"/sessions%2Fcleanup",
    b"/sessions/./cleanup",
    b"/x/../sessions/cleanup",
    b"/%2e/sessions/%2e%2E/sessions/cleanup",
    b"/sessions/%20/../cleanup",
    b"/sessions/;a/../cleanup",
    b"/sessions/a%5Cb/../cleanup",
    b"/sessions/cleanup;a=b",
    b"/SESSIONS/Cleanup",
    b"/%C5%BFe%C5%BFsions/cleanup",
    b"/sess%C4%B0ons/cleanup",
    b"/sess%C4%B1ons/cleanup",
    b"/sessions/cleanup.json",
    b"/sessions/cleanup%00",
    b"/sessions/cleanup%20",
    b"/sessions/cleanup?a=b",
    b"/sessions/cleanup#x",
    b"/sessions/cleanup/below",
    b"/%73essions/cleanup",
]

ORDINARY = [
    b"/",
    b"/sessions",
    b"/sessions/",
    b"/session/cleanup",
    b"/sessions/cleanup-all",
    b"/sessions/cleanups?next=/sessions/cleanup",
    b"/sessions/cleaning.json",
    b"/sessions/x;y/cleanup",
    b"/api/sessions/cleanup",
    b"/caf%C3%A9/%E6%97%A5",
    b"/search/100%25",
    b"http://h/sessions/other",
]

WITHOUT_THE_GUARD = [
    ("flask", b"//sessions/cleanup"),
    ("flask", b"/sessions/cleanup/"),
    ("django", b"/SESSIONS/Cleanup"),
    ("django", b"/%C5%BFe%C5%BFsions/cleanup"),
    ("django", b"/sess%C4%B0ons/cleanup"),
    ("django", b"/sess%C4%B1ons/cleanup"),
    ("pyramid-routes", b"/sessions/cleanup%0A"),
    ("pyramid-traversal", b"/%2Fsessions/cleanup"),
    ("pyramid-traversal", b"/x/../sessions/cleanup"),
    ("pyramid-traversal", b"/sessions/%20/../cleanup"),
    ("pyramid-traversal", b"/sessions/;a/../cleanup"),
    ("pyramid-traversal", b"/sessions/a%5Cb/../cleanup"),
    ("bottle", b"/sessions/cleanup%ff"),
    ("mounted", b"/sessions//cleanup"),
    ("popped", b"/sessions/%2Fcleanup"),
    ("joined", b"/sessions/cleanup"),
    ("loose", b"/sessions/cleanup.json"),
    ("loose", b"/sessions/cleanup;a=b"),
    ("loose", b"/sessions/cleanup%00"),
]
"""Spellings that reach the view without the guard: they show that the guard blocks them."""


class Answer(NamedTuple):
    """A status, or 0 if the server closed the connection, and the whole answer."""

    status: int
    text: str


def ask(port: int, target: bytes, *headers: str, method: str = "GET") -> Answer:
    """Return the answer to a raw request line."""
    lines = [f"{method} ".encode() + target + b" HTTP/1.1", b"Host: h", b"Connection: close"]
    lines += [header.encode() for header in headers]
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as link:
        link.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
        while chunk := link.recv(65_536):
            received += chunk
    text = received.decode("latin-1")
    return Answer(int(text.split(" ", 2)[1]) if text.startswith("HTTP/") else 0, text)


@pytest.fixture(
    scope="module", params=["gunicorn-sync", "gunicorn-gevent", "waitress", "gevent.pywsgi"]
)
def port(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Return the port of a server that all tests of this file share."""
    number = free_port()
    where = f"127.0.0.1:{number}"
    gunicorn = [program("gunicorn"), "-b", where, "-w", "1", "--no-control-socket", "-k"]
    command = {
        "gunicorn-sync": [*gunicorn, "sync", SITE],
        "gunicorn-gevent": [*gunicorn, "gevent", SITE],
        "waitress": [
            *(program("waitress-serve"), f"--listen={where}"),
            *("--call", "tests.support.guarded_site:make_application"),
        ],
        "gevent.pywsgi": [sys.executable, "-c", PYWSGI, str(number)],
    }[request.param]
    with Server(command, port=number, folder=tmp_path_factory.mktemp("guard")):
        yield number


def crooked(count: int) -> list[bytes]:
    """Return request targets: the guarded path with random insertions."""
    dice = random.Random(20_270_101)  # noqa: S311 - the same paths each time
    extras = [
        b"/",
        b"//",
        b"/./",
        b"/x/../",
        b"/;a/../",
        b"\\",
        b";a",
        b"/..",
        b"/..;/",
        b"%",
        b".",
    ]
    extras += [b".json", b" ", b"\n", b"\0", b"\xff", b"\xef\xbc\x8f", b"\xe2\x80\xa5", b"?", b"#"]
    places = [0, 1, 8, 9, 9, 10, 17, 17]
    targets = []
    for _ in range(count):
        parts = [bytes([byte]) for byte in b"/sessions/cleanup"]
        for _ in range(dice.randint(1, 4)):
            parts.insert(dice.choice(places), dice.choice(extras))
        safe = dice.choice(["/;.\\", ";.", "/;"])
        targets.append(quote_from_bytes(b"".join(parts), safe=safe).encode())
    return targets


@pytest.mark.parametrize("site", SITES)
def test_no_spelling_of_the_path_reaches_the_view(port: int, site: str) -> None:
    """The guard or the server refuses it, or the router leads elsewhere."""
    reached = [
        target
        for target in SPELLINGS + crooked(100)
        if REACHED in ask(port, target, f"X-App: {site}").text
    ]
    assert reached == []


@pytest.mark.parametrize("site", SITES)
def test_no_ordinary_path_is_refused(port: int, site: str) -> None:
    """The framework answers with a page, a redirect or 404."""
    statuses = {target: ask(port, target, f"X-App: {site}").status for target in ORDINARY}
    assert set(statuses.values()) <= {200, 308, 404}, statuses


@pytest.mark.parametrize(("site", "target"), WITHOUT_THE_GUARD)
def test_without_the_guard_the_spelling_reaches_the_view(
    port: int, site: str, target: bytes
) -> None:
    """The same request line reaches the view without the middleware."""
    assert REACHED in ask(port, target, f"X-App: {site}", "X-Guard: off").text


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "ODD"])
def test_the_method_makes_no_difference(port: int, method: str) -> None:
    """A guarded path is refused for every method."""
    answer = ask(port, b"/sessions/cleanup", "X-App: flask", "Content-Length: 0", method=method)
    assert answer.status == 403


def test_a_script_name_in_a_header_does_not_bypass_the_guard(port: int) -> None:
    """Gunicorn takes SCRIPT_NAME from a trusted peer and moves it off the path."""
    answer = ask(port, b"/sessions/cleanup", "X-App: joined", "SCRIPT_NAME: /sessions")
    assert answer.status == 403


def test_forged_headers_of_pulse_do_not_bypass_the_guard(port: int) -> None:
    """A request from outside with all of pulse's headers is refused."""
    names = ("Task", "Fire-Time", "Run-Id", "Attempt", "Trigger")
    forged = [f"X-Pulse-{name}: 1" for name in names]
    answer = ask(
        port, b"/sessions/cleanup", "X-App: flask", "User-Agent: pulse/1", "pulse.run: 1", *forged
    )
    assert answer.status == 403


def test_another_page_of_the_site_is_served(port: int) -> None:
    """A path that is not guarded is answered by the app."""
    assert OTHER in ask(port, b"/sessions/cleanup-all", "X-App: flask").text
