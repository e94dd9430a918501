"""A WSGI app whose scheduled views behave as their paths say, and append what they saw to a file.

The paths are those of `pulse.testing.sample_runs`, below `/tick`, with the seconds as the query,
`native`, which no signal ends and which lets other threads of the process go on, and `stuck`, which
lets none go on. Settings come from the environment: EVIDENCE is the file, SETTINGS the pulse
settings as JSON, and LOAD_S how many seconds the import takes.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterable

from pulse.carrier.base import Parcel
from pulse.celery import carrier
from pulse.celery.carrier import CeleryCarrier
from pulse.middleware import PulseMiddleware
from pulse.testing.sample_runs import BEHAVIOURS
from tests.support.evidence_app import note

SUMS, HASHES = 35_000_000, 1_500_000
"""About how many numbers are added, and how many hashes are made, in a second."""

logging.basicConfig(level=logging.INFO)
time.sleep(float(os.environ.get("LOAD_S", "0")))


def view(environ: dict, start_response: Callable) -> Iterable[bytes]:
    """Behave as the path says, between two notes; a page for visitors elsewhere."""
    path = environ["PATH_INFO"]
    if path.startswith("/tick/"):
        note("begin", environ)
        behave(path.removeprefix("/tick/"), float(environ["QUERY_STRING"] or 0))
        note("end", environ)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(os.getpid()).encode()]


def behave(kind: str, seconds: float) -> None:
    """Do what a path says for some seconds."""
    if kind == "native":
        hashlib.pbkdf2_hmac("sha256", b"word", b"salt", round(seconds * HASHES))
    elif kind == "stuck":
        sum(range(round(seconds * SUMS)))
    else:
        BEHAVIOURS[kind](seconds)


class CopyingCarrier(CeleryCarrier):
    """Sends each parcel as often as COPIES says, as a broker that delivers messages twice."""

    def send(self, parcel: Parcel, *, queue: str, delay_s: float | None = None) -> None:
        """Send all copies."""
        for _ in range(int(os.environ["COPIES"])):
            super().send(parcel, queue=queue, delay_s=delay_s)


if "COPIES" in os.environ:
    carrier.CeleryCarrier = CopyingCarrier

application = PulseMiddleware(view, config=json.loads(os.environ["SETTINGS"]))
