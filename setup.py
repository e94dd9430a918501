"""Makes the description of the distribution; everything else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

RELATIVE_LINK = re.compile(r"\[([^\]]+)\]\((?![a-z]+:)([^)#]+)(?:#[^)]*)?\)")
"""A link of the README to a file of the source distribution."""


def description(readme: str) -> str:
    """Return the README with paths instead of its relative links, which an index cannot follow."""
    return RELATIVE_LINK.sub(_path_of_link, readme)


def _path_of_link(link: re.Match[str]) -> str:
    text, path = link.groups()
    return f"`{path}`" if path.startswith(text) else f"{text} (`{path}`)"


if __name__ == "__main__":
    setup(
        long_description=description((Path(__file__).parent / "README.md").read_text("utf-8")),
        long_description_content_type="text/markdown",
    )
