"""The keys of an ini file: `pulse.config.<setting>` and `pulse.task.<name>.<setting>`."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, NamedTuple

from pulse.config.settings import SETTINGS
from pulse.core.task_settings import TASK_SETTINGS
from pulse.errors import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

CONFIG = "pulse.config."
TASK = "pulse.task."
_NEAR = 0.8


class SortedKeys(NamedTuple):
    """The values of a mapping, grouped by kind, and one sentence for each unknown key."""

    config: dict[str, object]
    tasks: dict[str, dict[str, object]]
    problems: list[str]


def sort_keys(mapping: Mapping[str, object]) -> SortedKeys:
    """Return the values of *mapping* grouped by kind; a value of None is ignored."""
    config: dict[str, object] = {}
    tasks: dict[str, dict[str, object]] = {}
    problems: list[str] = []
    for key, value in mapping.items():
        name, dot, setting = key.removeprefix(TASK).rpartition(".")
        if value is None:
            continue
        if key.startswith(CONFIG):
            config[key.removeprefix(CONFIG)] = value
        elif key.startswith(TASK) and dot:
            tasks.setdefault(name, {})[setting] = value
        else:
            problems.append(_unknown(key))
    return SortedKeys(config, tasks, problems)


def looks_ours(key: object) -> bool:
    """Return whether *key* begins with `pulse.` or with a probable misspelling of `pulse.`."""
    if not isinstance(key, str):
        return False
    first = key.partition(".")[0]
    near = difflib.SequenceMatcher(None, first.lower(), "pulse").ratio() >= _NEAR
    return first == "pulse" or ("." in key and near)


def _unknown(key: str) -> str:
    expected = f"expected {CONFIG}<setting> or {TASK}<name>.<setting>"
    if key.startswith(TASK):
        return f"{key}: expected {TASK}<name>.<setting>, got no {_incomplete_key(key)}"
    return f"{key}: unknown key; {expected}{_nearest(key)}"


def _incomplete_key(key: str) -> str:
    return "name" if key.removeprefix(TASK) in TASK_SETTINGS else "setting"


def _nearest(key: str) -> str:
    """Return a hint at a similar key, with the task name and setting of the unknown key."""
    kind, _, last = key.partition(".")[2].partition(".")
    if not last:
        return did_you_mean(key, [CONFIG + name for name in SETTINGS])
    near = difflib.get_close_matches(kind.lower(), ["config", "task"], n=1)
    return f"; did you mean 'pulse.{near[0]}.{last}'?" if near else ""
