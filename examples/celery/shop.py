"""A shop with three scheduled views. None of them knows where it is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

CUSTOMERS = ("ann", "bob")


def cleanup() -> str:
    """Delete what nobody needs."""
    return "deleted 3 carts"


def thumbnails() -> str:
    """Compute, as for pictures."""
    return f"drew {sum(range(20_000_000)) % 1000} thumbnails"


def letters() -> str:
    """Let Celery send a letter to each customer."""
    from examples.celery.tasks import send_letter

    for customer in CUSTOMERS:
        send_letter.delay(customer)
    return f"sent {len(CUSTOMERS)} messages"


CHORES = {f"/chores/{chore.__name__}": chore for chore in (cleanup, thumbnails, letters)}


def make_app(_global_conf: Mapping[str, str]) -> WSGIApplication:
    """Make the site from its section of the ini file."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        chore = CHORES.get(environ["PATH_INFO"])
        status, text = ("200 OK", chore()) if chore else ("404 Not Found", "not found")
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{text}\n".encode()]

    return app
