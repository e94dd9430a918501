"""Runs test files in an interpreter that gevent patches before anything else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

from tests.support.measure import measured_by_greenlet

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[2]


_IMPORTED_BEFORE = "ignore:Module already imported so cannot be rewritten; tests"
"""The sdist of pulse, which has a plugin for pytest, contains this package; pytest warns of it."""

_FORKS_OF_GEVENT = "ignore:This process (pid=:DeprecationWarning:gevent.os"
"""A patched interpreter forks here for each subprocess; `tests/support/forks.py` says more."""

LIMIT_S = 280
"""After that a run hangs: it takes a minute on a busy machine with two cores."""


class Tally(NamedTuple):
    """How many tests passed, how many did not, and the output of pytest."""

    passed: int
    others: int
    output: str


def run_patched(file: str, report: Path, *, part: int = 0, parts: int = 1) -> Tally:
    """Run one part of a file of `tests/patched`, 0 for the first one, and return its tally."""
    command = [
        sys.executable,
        "-m",
        "tests.support.patched",
        f"{part}/{parts}",
        f"tests/patched/{file}",
        f"--junitxml={report}",
    ]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    suite = next(ET.parse(report).iter("testsuite"))  # noqa: S314 - our own file
    others = sum(int(suite.attrib[key]) for key in ("failures", "errors", "skipped"))
    return Tally(int(suite.attrib["tests"]) - others, others, done.stdout + done.stderr)


def _environment() -> dict[str, str]:
    """Return the environment without the variables of this pytest."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return measured_by_greenlet(kept)


class _Part:
    """A plugin that leaves out the tests of other parts, which are the same in each run."""

    def __init__(self, part: int, parts: int) -> None:
        self._part, self._parts = part, parts

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep each test whose place among the names belongs to this part."""
        names = sorted(item.nodeid for item in items)
        kept = set(names[self._part :: self._parts])
        items[:] = [item for item in items if item.nodeid in kept]


def _main(arguments: list[str]) -> int:
    from gevent import monkey

    monkey.patch_all()
    import pytest

    words = ["-q", "-p", "no:xdist", "-p", "no:pytest_cov"]
    ignored = ["-W", _IMPORTED_BEFORE, "-W", _FORKS_OF_GEVENT]
    part, _, parts = arguments.pop(0).partition("/")
    return pytest.main([*words, *ignored, *arguments], plugins=[_Part(int(part), int(parts))])


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
