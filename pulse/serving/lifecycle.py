"""One middleware's part in the processes around it: begun once in each that serves, ended once."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from pulse.core.policies import Start
from pulse.serving import gunicorn, uwsgi, waitress
from pulse.serving.base import AnyServer
from pulse.serving.exclusions import is_switched_off, is_test_run, serves_nobody
from pulse.serving.process_registry import ROLL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pulse.serving.base import Host, Place, Served

HURRY_S = 1.0
"""The limit of an end whose first try was cut short: nothing is left to drain in."""

FINDERS: tuple[Callable[[], Place | None], ...] = (
    gunicorn.find,
    uwsgi.find,
    waitress.find,
)


def warn(text: str) -> None:
    """Show a notice as a warning: the default, where nobody else takes them."""
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def arrange(
    served: Served, *, start: Start = Start.AUTO, notice: Callable[[str], None] = warn
) -> Arrangement:
    """Return the arrangement by which *served* begins and ends in each process that serves.

    Keep it for as long as *served* is wanted: nothing else does. Nothing is opened or started in
    a process that does not serve.

    Args:
        served: what begins and ends.
        start: `auto` as described; `eager` begins at once, in this process, whatever it is; with
            `off` only the hooks of `pulse.gunicorn` begin it.
        notice: takes a sentence where detection failed or a late start did.

    """
    arrangement = Arrangement(served, start=start, notice=notice)
    served.ask(arrangement.serving)
    ROLL.add(arrangement)
    place = arrangement.look()
    if place is not None:
        place.enter(arrangement)
    if start is Start.EAGER:
        arrangement.begin()
    return arrangement


class Arrangement:
    """Begins its *served* once in a process, and ends it once.

    Attributes:
        pending: whether a request should be shown to `first_request`; cheap to read at each.

    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_ending",
        "_host",
        "_notice",
        "_served",
        "_start",
        "_turns",
        "pending",
    )

    pending: bool
    _host: Host
    _turns: list[bool]
    _ending: bool
    _ended: bool

    def __init__(self, served: Served, *, start: Start, notice: Callable[[str], None]) -> None:
        self._served = served
        self._start = start
        self._notice = notice
        self._reset()

    def serving(self) -> bool:
        """Return whether the server still wants new work from this process."""
        return self._host.serving()

    def first_request(self, environ: Mapping[str, object]) -> None:
        """Begin, if this request shows that the process serves; called while `pending`.

        It never raises: a request is not answered worse because pulse could not begin.
        """
        try:
            if self._begins_by_itself() and not serves_nobody(environ):
                self._begin_late()
        # The request must be answered, whatever keeps pulse from beginning.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self.note(f"pulse takes no part in this process: {error}")

    def look(self) -> Place | None:
        """Return the place that the stack of calls shows, or None; a failure is only noted."""
        try:
            return next((place for find in FINDERS if (place := find()) is not None), None)
        # Servers change: what is not understood must not keep the application from loading.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self.note(f"pulse begins at the first request: {error!r} while looking for the server")
            return None

    def belong(self, host: Host) -> None:
        """Take *host* for the server around this process."""
        self._host = host

    def is_begun(self) -> bool:
        """Return whether it has begun in this process."""
        return not self._turns

    def enter(self) -> None:
        """Begin, unless it has begun already or must never begin by itself."""
        if self._begins_by_itself():
            self.begin()

    def begin(self) -> None:
        """Begin, unless it has begun already or the environment forbids it."""
        self.pending = False
        if not is_switched_off() and self._takes_turn():
            ROLL.await_exit()
            self._served.begin()

    def quiet(self) -> None:
        """Claim nothing more."""
        if self.is_begun() and not self._ended:
            self._served.quiet()

    def end(self) -> None:
        """Drain and end, unless it has not begun or has ended already."""
        if not self.is_begun() or self._ended:
            return
        limit_s = HURRY_S if self._ending else self._host.limit_s()
        self._ending = True
        self._served.end(limit_s)
        self._ended = True

    def forked(self) -> None:
        """Forget the parent's state, and look whether gunicorn has just made a worker."""
        self._reset()
        try:
            place = gunicorn.find_forked()
            if place is not None:
                place.enter(self)
        # Nothing may be raised in a child that knows nothing of pulse.
        except Exception as error:  # noqa: BLE001 - the reason is above
            self.note(f"pulse begins at the first request: {error!r} after a fork")

    def note(self, text: str) -> None:
        """Tell whoever takes the notices."""
        self._notice(text)

    def _reset(self) -> None:
        self._host = AnyServer()
        self._turns = [True]
        self._ending = self._ended = False
        self.pending = self._begins_by_itself()

    def _begins_by_itself(self) -> bool:
        if self._start is Start.OFF or is_switched_off():
            return False
        return self._start is Start.EAGER or not is_test_run()

    def _takes_turn(self) -> bool:
        """Return True to one caller only: `list.pop` is atomic, and a lock might be forked."""
        try:
            return self._turns.pop()
        except IndexError:
            return False

    def _begin_late(self) -> None:
        place = self.look() if isinstance(self._host, AnyServer) else None
        if place is not None:
            place.enter(self)
        self.begin()
