"""Tables of settings made from the code: in the README, and in the reference.

`python docs/_ext/settings_table.py README.md` writes the file's tables anew; a test compares them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pulse.config.settings import SETTINGS
from pulse.core.task_settings import TASK_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLES = {"pulse.config.": SETTINGS, "pulse.task.<name>.": TASK_SETTINGS}
_PLACE = re.compile(
    r"(?P<begin><!-- settings: (?P<prefix>\S+) -->\n).*?(?P<end><!-- end of settings -->)",
    re.DOTALL,
)


def renew(text: str) -> str:
    """Return a Markdown *text* with the tables between its marks made anew."""
    return _PLACE.sub(lambda place: place["begin"] + table(place["prefix"]) + place["end"], text)


def table(prefix: str) -> str:
    """Return a Markdown table of the settings below *prefix*, a row for each."""
    return "".join(f"{line}\n" for line in _rows(prefix))


def definitions(prefix: str) -> str:
    """Return a Markdown definition list of the settings below *prefix*, with examples."""
    return "".join(f"{line}\n" for line in _definitions(prefix))


def _rows(prefix: str) -> Iterator[str]:
    yield f"| `{prefix}…` | value | default | meaning |"
    yield "|---|---|---|---|"
    for row in TABLES[prefix].values():
        yield f"| `{row.name}` | {row.kind} | {row.default} | {row.help} |"


def _definitions(prefix: str) -> Iterator[str]:
    for row in TABLES[prefix].values():
        yield f"`{row.name}`"
        yield f": {row.help}"
        yield ""
        yield f"  Value: {row.kind}. Default: {row.default}."
        yield ""
        yield "  ```ini"
        yield from (f"  {line}" for line in f"{prefix}{row.name} = {row.example}".splitlines())
        yield "  ```"
        yield ""


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(renew(file.read_text()))
