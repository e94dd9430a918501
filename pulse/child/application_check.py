"""Checks before the first run that child processes can load the application of this process.

The check has two steps. When pulse starts, the name is looked up in modules that are imported
already: a missing name makes the server's start fail. But the module may be the one that is being
imported at that moment, and the check must not import any other. So what is still unknown is
checked when the server accepts work for the first time, in a thread beside the loop: a child
process loads the application, as it would for a run, and a failure is an error in the log.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from pulse.engine.child_application import KEY, UNKNOWN, look_up
from pulse.engine.child_process import ChildLostError, ChildProcess
from pulse.engine.loop_thread import spawn
from pulse.errors import ConfigError
from pulse.serving.references import follow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pulse.child.discovery import BuiltMiddleware
    from pulse.clock import Clock
    from pulse.engine.child_protocol import ChildSetup


class ApplicationCheck:
    """Checks once that child processes load the application of this process.

    It does not keep the middleware alive.

    Args:
        mine: the middleware that has the child processes.
        setup: what the child processes load.
        beside: returns the middlewares of this process.
        clock: measures how long a child takes.
        report: called with a problem that is found once the process serves.

    """

    def __init__(
        self,
        mine: BuiltMiddleware,
        setup: ChildSetup,
        *,
        beside: Callable[[], Sequence[BuiltMiddleware]],
        clock: Clock,
        report: Callable[[str], None],
    ) -> None:
        self._mine = weakref.ref(mine)
        self._setup = setup
        self._beside = beside
        self._clock = clock
        self._report = report
        self._is_loading = False

    def at_start(self, accepts_work: Callable[[], bool]) -> Callable[[], bool]:
        """Check what is imported; return *accepts_work*, which first checks the rest, if any.

        Raises:
            ConfigError: the setting names no application, or one that is not the served one.

        """
        return self._checking_once(accepts_work) if self._is_undecided() else accepts_work

    def _checking_once(self, accepts_work: Callable[[], bool]) -> Callable[[], bool]:
        checks = [self._check_again]

        def check_once() -> bool:
            if not accepts_work():
                return False
            if checks:
                checks.pop()()
            return not self._is_loading  # the problem, if any, is in the log before a run fails

        return check_once

    def _is_undecided(self) -> bool:
        name = self._setup.application
        if not name:
            return self._setup.chosen
        found = look_up(name)
        if not name.endswith("()"):
            self._compare(name, found)
        return found is UNKNOWN

    def _check_again(self) -> None:
        try:
            if self._is_undecided():
                self._is_loading = True
                spawn(self._load_in_child, "pulse-check")
        except ConfigError as error:
            self._report(str(error))

    def _load_in_child(self) -> None:
        try:
            if problem := loading_problem(self._setup, self._clock):
                self._report(problem)
        finally:
            self._is_loading = False

    def _compare(self, name: str, found: object) -> None:
        """Raise if the application holds a middleware equal to this one, but not this one."""
        mine = self._mine()
        fingerprint = self._setup.fingerprint
        alike = [each for each in self._beside() if fingerprint.resembles(each.fingerprint)]
        held = follow(found, alike, by_name=True) if len(alike) > 1 else []
        if held and all(each is not mine for each in held):
            problem = (
                f"{KEY} = {name}: expected the application that is served, got another one with an"
                " equal PulseMiddleware; serve that one, name the factory of the served one with"
                " (), or give each its own pulse.config.name"
            )
            raise ConfigError([problem])


def loading_problem(setup: ChildSetup, clock: Clock) -> str:
    """Return a sentence that says why a child process cannot load the application, or ''."""
    try:
        child = ChildProcess(setup, clock)
    except ChildLostError as lost:
        return lost.summary
    try:
        child.open()
    except ChildLostError as lost:
        return lost.summary
    finally:
        child.end()
    return ""
