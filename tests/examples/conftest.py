"""A running copy of an example, as `make demo` starts the demo."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.servers import Server, free_port, program

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]


def copy_examples(folder: Path) -> None:
    """Copy the examples, and the gunicorn.conf.py with which they are served."""
    ignore = shutil.ignore_patterns(".demo")  # what a demo at the desk has left
    shutil.copy(ROOT / "gunicorn.conf.py", folder)
    shutil.copytree(ROOT / "examples", folder / "examples", ignore=ignore)


@contextmanager
def served_copy(folder: Path, ini: str, mode: str, **environ: str) -> Iterator[Server]:
    """Serve a copy of an example with the repository's gunicorn.conf.py."""
    copy_examples(folder)
    port = free_port()
    with Server(
        [program("gunicorn"), "--config", "gunicorn.conf.py", "--paste", ini],
        port=port,
        folder=folder,
        environ={"MODE": mode, "PORT": str(port)} | environ,
    ) as server:
        yield server
