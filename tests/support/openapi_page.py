"""Writes the description of the API for the reference: `python -m tests.support.openapi_page`."""

from __future__ import annotations

import json
from pathlib import Path

from pulse.web.openapi import openapi

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"


def page() -> dict[str, object]:
    """Return the description without the version of the release, which changes with each one."""
    found = openapi()
    return found | {"info": found["info"] | {"version": "VERSION"}}


if __name__ == "__main__":
    PAGE.write_text(json.dumps(page(), indent=1, ensure_ascii=False) + "\n")
