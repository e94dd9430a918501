"""Runs with a chosen behaviour, for tests of engines.

A run is a request for `/<kind>?<seconds>`. In this process `perform` executes it; in a child
process `app` does, a WSGI application with the paths of `BEHAVIOURS`.
"""

from __future__ import annotations

import itertools
import os
import time  # noqa: TID251 - the behaviours sleep; the time is read from pulse.clock
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from pulse.clock import SECOND, SystemClock
from pulse.core.run import Claim, Outcome, Result, Run
from pulse.core.task import Task, build_definition
from pulse.engine.base import Interruption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LONG: Final = 60.0
"""The seconds of a nap that ends within the bound only if it is interrupted."""


class _SlotDeathError(BaseException):
    """An exception that no runner raises; a slot must survive it."""


def _nap(seconds: float) -> None:
    time.sleep(seconds)


def _compute(seconds: float) -> None:
    end = read_seconds() + seconds
    while read_seconds() < end:
        pass


def _crash(_: float) -> None:
    raise RuntimeError("the app broke")


def _quit(_: float) -> None:
    raise SystemExit(3)


def _interrupt_oneself(_: float) -> None:
    raise KeyboardInterrupt


def _swallow(seconds: float) -> None:
    end = read_seconds() + seconds
    while (left := end - read_seconds()) > 0:
        with suppress(BaseException):
            time.sleep(left)


def _die(_: float) -> None:
    raise _SlotDeathError


def read_seconds() -> float:
    """Return the boot clock in seconds."""
    return SystemClock().boot() / SECOND


BEHAVIOURS: Final[Mapping[str, Callable[[float], None]]] = {
    "quick": lambda _: None,
    "nap": _nap,
    "cpu": _compute,
    "crash": _crash,
    "quit": _quit,
    "keyboard": _interrupt_oneself,
    "swallow": _swallow,
    "die": _die,
}
"""What the app does for a request of `/<kind>?<seconds>`; `die` ends the slot, too."""


def app(
    environ: dict[str, object], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    """Answer `/<kind>?<seconds>` with that behaviour: an application for engines with children."""
    kind = str(environ["PATH_INFO"]).strip("/")
    if kind == "die":
        os._exit(70)
    BEHAVIOURS[kind](float(str(environ["QUERY_STRING"])))
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"done"]


_NUMBERS = itertools.count(1)


def make_claim(
    kind: str,
    seconds: float = 0.0,
    *,
    timeout: float = LONG,
    grace: float | None = None,
    queue: str | None = None,
) -> Claim:
    """Return a new claim whose run has the behaviour *kind* for *seconds*."""
    clock = SystemClock()
    action = f"/{kind}?{seconds}"
    task = Task(action=action, interval=60, timeout=timeout, grace=grace, queue=queue)
    run = Run(id=f"{next(_NUMBERS):032x}", task=kind, fire_time=clock.wall(), holder="test")
    return Claim(run, build_definition(kind, task), clock.boot() + 600 * SECOND)


def perform(claim: Claim) -> Result:
    """Run a claim as a runner does, without an app: the default of the contract."""
    clock = SystemClock()
    wall, boot = clock.wall(), clock.boot()
    outcome, message = _behave(claim)
    return Result(outcome, wall, clock.boot() - boot, message=message)


def _behave(claim: Claim) -> tuple[Outcome, str]:
    definition = claim.definition
    try:
        BEHAVIOURS[definition.path.strip("/")](float(definition.query))
    except _SlotDeathError:
        raise
    except Interruption as stop:
        if stop.claim is not claim:
            return Outcome.FAILED, "an interruption of another claim"
        return stop.outcome, "interrupted"
    except BaseException as error:  # noqa: BLE001 - whatever the app raises is a failed run
        return Outcome.FAILED, repr(error)
    return Outcome.SUCCEEDED, ""
