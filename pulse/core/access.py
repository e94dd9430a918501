"""How much somebody may do with the tasks: nothing, read, or act."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from pulse.errors import BadValueError


class Level(StrEnum):
    """What somebody may do; who may act may read as well."""

    NONE = "none"
    READ = "read"
    ACT = "act"

    def covers(self, needed: Level) -> bool:
        """Return whether this level permits what needs *needed*."""
        order = (Level.NONE, Level.READ, Level.ACT)
        return order.index(self) >= order.index(needed)


class Access(msgspec.Struct, frozen=True):
    """What somebody may do, and who it is, for the audit trail.

    A function of the setting `access` returns one: `Access("act", "anna")`.
    """

    level: Level | str = Level.NONE
    who: str = ""


NOBODY = Access()


def checked_access(given: object) -> Access:
    """Return an `Access` with exact types; True means act, False and None mean nothing.

    Raises:
        BadValueError: *given* is something else.

    """
    match given:
        case None | False:
            return NOBODY
        case True:
            return Access(Level.ACT)
        case Access(level=str() as level, who=str() as who) if level in set(Level):
            return Access(Level(level), who[:200])
    raise BadValueError("an Access with a level of none, read or act, or a bool", given)
