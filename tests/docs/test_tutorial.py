"""The tutorial, done as it says: its files, its command, what it promises to see."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.markdown import blocks_of
from tests.support.servers import Server, free_port, program

if TYPE_CHECKING:
    from collections.abc import Iterator

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
RUN = re.compile(r"^pulse: expire (\S+Z) succeeded 200 ", re.MULTILINE)

pytestmark = pytest.mark.server


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[Server]:
    """The tutorial's site, from the blocks that begin with a file's name."""
    for block in blocks_of(TUTORIAL):
        name, _, code = block.code.partition("\n")
        if name.startswith("# ") and block.language == "python":
            (tmp_path / name.removeprefix("# ")).write_text(code)
    port = free_port()
    with Server(
        [program("gunicorn"), "--bind", f"127.0.0.1:{port}", "--no-control-socket", "app:app"],
        port=port,
        folder=tmp_path,
        environ={"XDG_STATE_HOME": str(tmp_path / "state")},
    ) as server:
        yield server


def test_the_tutorial_ticks_every_five_seconds(notes: Server) -> None:
    """The view runs at fire times five seconds apart, and an outsider who asks for it gets 403."""
    fire_times = notes.wait_for(lambda: RUN.findall(notes.log_text())[1:], what="two ticks")

    refused = notes.get("/notes/expire").status

    assert (len(fire_times), refused) == (1, 403)
