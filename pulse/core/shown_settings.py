"""The settings of a definition as text, for people and other processes: without secrets.

Headers and bodies may hold secrets: of their content only the references to environment variables,
`${NAME}`, are shown, and whatever surrounds them is replaced by three asterisks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

from pulse.core.policies import Overlap
from pulse.core.task import DEFINITION_DEFAULTS
from pulse.core.task_settings import TASK_SETTINGS

if TYPE_CHECKING:
    from pulse.core.task import TaskDefinition

_REFERENCE = re.compile(r"(?<!\$)\$\{[^{}]*\}")
_PATH = "/:@!$&'()*+,;=~"
"""Characters that a path holds unquoted (RFC 3986, section 3.3)."""

_PLAIN = {
    name: f"{name}_us" if row.is_span else name
    for name, row in TASK_SETTINGS.items()
    if (f"{name}_us" if row.is_span else name) in DEFINITION_DEFAULTS and not row.is_secret
}
"""The settings that are shown as they are, each with the field of a definition that holds it."""


def shown_settings(definition: TaskDefinition) -> dict[str, str]:
    """Return the settings that differ from the defaults, and the timeout, in ini syntax."""
    path = quote(definition.path.encode("latin-1"), safe=_PATH)
    action = f"{path}?{definition.query}" if definition.query else path
    found = {"action": action, **definition.schedule.to_text()}
    for name, field in _PLAIN.items():
        value = getattr(definition, field)
        if value != DEFINITION_DEFAULTS[field] or name == "timeout":
            found[name] = TASK_SETTINGS[name].text(value) if value is not None else "none"
    if definition.overlap is Overlap.ALLOW:
        found["max_running"] = str(definition.max_unfinished)
    if definition.headers:
        found["headers"] = "\n".join(f"{name}: {masked(text)}" for name, text in definition.headers)
    if definition.body:
        found["body"] = f"{len(definition.body)} bytes"
    return found


def masked(text: str) -> str:
    """Return the references of a text to environment variables, with `***` for what is around."""
    parts: list[str] = []
    position = 0
    for found in _REFERENCE.finditer(text):
        parts += ["***"] * (found.start() > position) + [found[0]]
        position = found.end()
    return "".join(parts + ["***"] * (position < len(text)))
