"""What happens to tests and benchmarks on a machine that lacks a server program."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn


def missing(reason: str) -> NoReturn:
    """Fail a test where everything has to be there, as in CI, and skip it at a desk.

    Outside pytest, which need not be installed then, the program ends with the reason.
    """
    pytest = sys.modules.get("pytest")
    if pytest is None:
        raise SystemExit(reason)
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def require_uwsgi() -> None:
    """Do what `missing` does if there is no uWSGI beside this Python."""
    if not Path(sys.executable).with_name("uwsgi").exists():
        missing("uWSGI is not installed: pyuwsgi has no wheel for this Python")
