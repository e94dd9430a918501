"""Whether the child processes of this one will find their application, known before the first run.

Two moments show it. When the process begins, what is imported already is looked up: a name that is
not there ends the server's start. But the module may be what is being imported just then, and what
is not imported here must not be. So the rest is looked at when the server wants work for the first
time, beside the loop: there a child process loads the application, as it would for a run, and what
it cannot load is an error in the log.
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

    from pulse.child.discovery import Announced
    from pulse.clock import Clock
    from pulse.engine.child_protocol import ChildSetup


class ApplicationCheck:
    """Looks once whether what child processes load is the application of this process.

    It does not keep the middleware alive.

    Args:
        mine: the middleware that has the child processes.
        setup: what they are told to load.
        beside: returns the middlewares of this process.
        clock: measures how long a child takes.
        report: takes what is wrong once the process serves.

    """

    def __init__(
        self,
        mine: Announced,
        setup: ChildSetup,
        *,
        beside: Callable[[], Sequence[Announced]],
        clock: Clock,
        report: Callable[[str], None],
    ) -> None:
        self._mine = weakref.ref(mine)
        self._setup = setup
        self._beside = beside
        self._clock = clock
        self._report = report

    def at_start(self, serving: Callable[[], bool]) -> Callable[[], bool]:
        """Look up what is imported; return *serving*, which looks at the rest where any is left.

        Raises:
            ConfigError: the setting names no application, or one that is not the served one.

        """
        return self._before(serving) if self._leaves_doubt() else serving

    def _before(self, serving: Callable[[], bool]) -> Callable[[], bool]:
        waiting = [self._look_again]

        def first_look_again() -> bool:
            if not serving():
                return False
            if waiting:
                waiting.pop()()
            return True

        return first_look_again

    def _leaves_doubt(self) -> bool:
        word = self._setup.application
        if not word:
            return self._setup.chosen
        found = look_up(word)
        if not word.endswith("()"):
            self._compare(word, found)
        return found is UNKNOWN

    def _look_again(self) -> None:
        try:
            if self._leaves_doubt():
                spawn(self._load_in_child, "pulse-check")
        except ConfigError as error:
            self._report(str(error))

    def _load_in_child(self) -> None:
        if problem := loading_problem(self._setup, self._clock):
            self._report(problem)

    def _compare(self, word: str, found: object) -> None:
        """Refuse what holds another middleware like this one, but not this one."""
        mine = self._mine()
        fingerprint = self._setup.fingerprint
        alike = [each for each in self._beside() if fingerprint.resembles(each.fingerprint)]
        held = follow(found, alike, by_name=True) if len(alike) > 1 else []
        if held and all(each is not mine for each in held):
            problem = (
                f"{KEY} = {word}: expected the application that is served, got another one with an"
                " equal PulseMiddleware; serve that one, name the factory of the served one with"
                " (), or give each its own pulse.config.name"
            )
            raise ConfigError([problem])


def loading_problem(setup: ChildSetup, clock: Clock) -> str:
    """Return in a sentence what keeps a child process from loading the application, or nothing."""
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
