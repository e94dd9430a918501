"""Which requests pulse answers itself: those below the addresses of its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.guard.guard import is_run
from pulse.web.health import PROBES
from pulse.web.responses import problem_answer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from pulse.web.health import Probes


MOST_REMEMBERED, LONGEST_REMEMBERED = 4_096, 200
"""How many paths of other requests are remembered, and how long these are at most."""


class Mounts:
    """The applications and probes of one middleware, by address; the longest address wins.

    Attributes:
        others: paths that were found to be none of pulse's; to look one up there costs an ordinary
            request a third of a comparison with each address.

    """

    def __init__(
        self, applications: Mapping[str, WSGIApplication], *, health: str | None, probes: Probes
    ) -> None:
        self._applications = sorted(applications.items(), key=lambda one: -len(one[0]))
        self._health = health
        self._probes = probes
        paths = [*applications, *([] if health is None else [health])]
        self._roots = tuple(path.encode().decode("latin-1") for path in paths)
        self.others: set[str] = set()

    def answer(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes] | None:
        """Answer a request; None if it is none of pulse's."""
        sent: str = environ.get("PATH_INFO", "")
        if not sent.startswith(self._roots):
            self._remember(sent)
            return None
        path = sent.encode("latin-1", "replace").decode("utf-8", "replace")
        if self._health is not None and path.startswith(f"{self._health}/"):
            probe = path.removeprefix(f"{self._health}/")
            if probe in PROBES:
                return self._probes.answer(probe, environ, start_response)
        for mounted, application in self._applications:
            if path != mounted and not path.startswith(f"{mounted}/"):
                continue
            if is_run(environ):
                return problem_answer(403, "no task may request pulse itself").send(
                    environ, start_response
                )
            return application(_below(environ, mounted), start_response)
        return None

    def _remember(self, path: str) -> None:
        """Remember a path that is none of pulse's, if it is short, in bounded space."""
        if len(path) <= LONGEST_REMEMBERED:
            if len(self.others) >= MOST_REMEMBERED:
                self.others.clear()
            self.others.add(path)


def _below(environ: WSGIEnvironment, mounted: str) -> WSGIEnvironment:
    """Return the environ of an application that is mounted there (PEP 3333, SCRIPT_NAME)."""
    prefix = mounted.encode().decode("latin-1")
    changed = environ.copy()
    changed["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + prefix
    changed["PATH_INFO"] = environ["PATH_INFO"].removeprefix(prefix)
    return changed
