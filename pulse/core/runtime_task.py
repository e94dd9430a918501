"""Tasks that are added at run time: the words in which a store keeps one, and what they define.

The words are complete: the action is an absolute path, and what the configuration of the adding
process says of timeout and time zone stands in them. So every process that shares the store makes
the same definition of them, whatever its own configuration says, and makes it only when it is
needed.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.core.task import DEFAULT_TIMEOUT, Definition, Task, define, spell, target_of
from pulse.errors import ConfigError
from pulse.schedule.converters import UTC
from pulse.settings.converters import spell_span

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_DEFINITIONS = 4_096
"""How many definitions a process keeps made; the others are made anew when they are needed."""


class Usual(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of tasks that leave it open.

    Attributes:
        context: the path that a relative action lies below.
        timeout_us: the timeout of tasks that set none.
        timezone: the time zone of tasks that name none.
        guarded: the paths that the guard covers (PEP 3333 text); None where there is no guard.

    """

    context: str = ""
    timeout_us: Span = DEFAULT_TIMEOUT
    timezone: str = UTC
    guarded: tuple[str, ...] | None = None


class Addition(msgspec.Struct, frozen=True):
    """A task to be added: what it comes to, and the words that a store keeps."""

    definition: Definition
    words: str


def complete(name: str, task: Task, usual: Usual) -> Addition:
    """Return *task* in words that leave nothing open."""
    words = spell(task)
    words["action"] = target_of(words["action"], usual.context)
    words.setdefault("timeout", spell_span(usual.timeout_us))
    if "interval" not in words or not words.keys().isdisjoint({"start", "end"}):
        words.setdefault("timezone", usual.timezone)
    whole = Task(**words)
    return Addition(define(name, whole), json.dumps(words, sort_keys=True))


def define_words(name: str, words: str) -> Definition:
    """Return the definition that a store's words make.

    Raises:
        ConfigError: this release of pulse does not understand them; a newer one wrote them.

    """
    known = set(Task.__struct_fields__)
    given = json.loads(words)
    if strange := sorted(given.keys() - known):
        raise ConfigError([_beyond(name, ", ".join(strange))])
    try:
        return define(name, Task(**given))
    except ConfigError as error:
        raise ConfigError([_beyond(name, str(error))]) from None


def _beyond(name: str, what: str) -> str:
    return f"{name}: expected words that this release of pulse knows, got others: {what}"


def remembering() -> Callable[[str, str], Definition]:
    """Return `define_words` with a bounded memory of its own."""
    return lru_cache(MOST_DEFINITIONS)(define_words)
