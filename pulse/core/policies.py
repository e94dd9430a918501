"""The enums of policies: the behaviour of tasks and of pulse itself."""

from __future__ import annotations

from enum import Enum


class Overlap(Enum):
    """The policy for a tick that is due while a run of its task is unfinished."""

    SKIP = "skip"
    WAIT = "wait"
    ALLOW = "allow"


class Misfire(Enum):
    """The policy for fire times that passed while no process could run them."""

    LATEST = "latest"
    SKIP = "skip"
    ALL = "all"


class Scope(Enum):
    """A set of processes that agree: the fleet, those of one host, or one process alone.

    The scope of a task says in which set each tick runs once. The reach of a store is the largest
    set whose processes can agree through the store.
    """

    FLEET = "fleet"
    HOST = "host"
    PROCESS = "process"


class OnAbandoned(Enum):
    """The policy for a run whose process died: only record the run, or dispatch it again."""

    RECORD = "record"
    RERUN = "rerun"


class Start(Enum):
    """When a process starts its scheduler: when it serves requests, at once, or never."""

    AUTO = "auto"
    EAGER = "eager"
    OFF = "off"


class StoreFallback(Enum):
    """What a process does without a folder for the default store: start nothing, or use memory."""

    REFUSE = "refuse"
    MEMORY = "memory"


class Output(Enum):
    """Of which runs the API and the dashboard show the response or the traceback."""

    FULL = "full"
    FAILURES = "failures"
    NONE = "none"
