# ruff: noqa: SLF001 - argparse has no public names for what a parser holds
"""The usage and the options of each command, from the parser itself."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from pulse.cli.arguments import make_parser
from pulse.cli.main import ON_STORES

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMON = frozenset({"--help", "--store", "--name", "--section", "--global", "--utc", "--json"})
"""Options that the page describes once for all commands."""


def commands() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command, in the order of the help."""
    parser = make_parser()
    [action] = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    return dict(action.choices)


def definitions() -> str:
    """Return Markdown with a section for each command that works on a store."""
    known = commands()
    return "\n".join(line for name in ON_STORES for line in _section(name, known[name]))


def _section(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    positional = [each for each in parser._actions if not each.option_strings]
    words = " ".join(
        f"[{each.metavar}]" if each.nargs == "?" else f"{each.metavar}" for each in positional
    )
    yield f"**`pulse {name} {words}`**: {_text(parser.description or '')}\n"
    options = [each for each in parser._actions if each.option_strings]
    own = [each for each in options if not COMMON.intersection(each.option_strings)]
    if own:
        yield "| option | meaning |\n|---|---|"
        for each in own:
            value = "" if each.nargs == 0 else f" {each.metavar or each.dest.upper()}"
            yield f"| `{each.option_strings[-1]}{value}` | {_text(each.help or '')} |"
        yield ""


def _text(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").replace("*", "\\*")
