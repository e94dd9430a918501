"""The closed sets of words that say how tasks, and pulse itself, are to behave."""

from __future__ import annotations

from enum import Enum


class Overlap(Enum):
    """What becomes of a tick that is due while a run of its task is still going."""

    SKIP = "skip"
    WAIT = "wait"
    ALLOW = "allow"


class Misfire(Enum):
    """What becomes of fire times that passed while nobody could run them."""

    LATEST = "latest"
    SKIP = "skip"
    ALL = "all"


class Scope(Enum):
    """How far "once" reaches for a task: the fleet, each host, or each process."""

    FLEET = "fleet"
    HOST = "host"
    PROCESS = "process"


class OnAbandoned(Enum):
    """What becomes of a run whose process died: left on record, or dispatched again."""

    RECORD = "record"
    RERUN = "rerun"


class Start(Enum):
    """When a process begins to take part: by itself, as soon as it is built, or never."""

    AUTO = "auto"
    EAGER = "eager"
    OFF = "off"
