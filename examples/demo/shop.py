"""A shop whose chores are quick, slow, broken, shaky, or too long for their interval.

Each chore is an ordinary view. pulse requests it on schedule, and the guard in demo.ini keeps
everybody else from it.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from webob import Request, Response, exc

from pulse.core.access import Access

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

HOME = """<!doctype html>
<title>Shop</title>
<p>This is the shop. Its chores are on <a href="/_pulse/">the dashboard</a>.
"""


def cleanup(_request: Request) -> Response:
    """Delete what nobody needs."""
    return text("deleted 3 carts")


def report(_request: Request) -> Response:
    """Add up the sales, which takes a while."""
    time.sleep(4)
    return text("sold 42 lamps today")


def charge(_request: Request) -> Response:
    """Charge the cards, which the payment provider refuses."""
    return text("the payment provider does not answer", status=503)


def sync(request: Request) -> Response:
    """Ask the warehouse, which is busy when it is asked for the first time."""
    if request.headers.get("X-Pulse-Attempt") == "1":
        return text("the warehouse is busy", status=503)
    return text("17 lamps in stock")


def export(_request: Request) -> Response:
    """Write all orders to a file, which takes longer than the time to the next export."""
    time.sleep(8)
    return text("wrote 1,204 orders")


def newsletter(_request: Request) -> Response:
    """Send the letter of the morning."""
    return text("sent 310 letters")


def text(words: str, *, status: int = 200) -> Response:
    """Return a plain answer."""
    return Response(f"{words}\n", content_type="text/plain", charset="utf-8", status=status)


CHORES: Mapping[str, Callable[[Request], Response]] = {
    f"/chores/{chore.__name__}": chore
    for chore in (cleanup, report, charge, sync, export, newsletter)
}


def make_app(_global_conf: Mapping[str, str]) -> WSGIApplication:
    """Make the site from its section of the ini file."""
    # As in gunicorn.conf.py, which a Celery worker does not read: a line for each run.
    logging.getLogger("pulse").setLevel(logging.INFO)

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        if request.path_info == "/":
            return Response(HOME)(environ, start_response)
        chore = CHORES.get(request.path_info)
        answer = exc.HTTPNotFound() if chore is None else chore(request)
        return answer(environ, start_response)

    return app


def neighbour(environ: Mapping[str, object]) -> Access | None:
    """Let those who sit at this machine do everything; a site of your own asks its login."""
    return Access("act", "demo") if environ.get("REMOTE_ADDR") == "127.0.0.1" else None
