"""A Celery worker of pulse finds the modules of the folder in which it is started."""

from __future__ import annotations

from signal import SIGTERM
from typing import TYPE_CHECKING

import pytest

from tests.support.servers import Server, program, wait_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.server

APP = """
from pulse import PulseMiddleware

import shop_views  # found only while the application is loaded

app = PulseMiddleware(
    lambda *_: [], mode="celery", broker="{broker}", store="sqlite:///{folder}/pulse.db"
)
"""

OWN = """
from celery import Celery

app = Celery("shop", broker="memory://")
"""

INSTALLED = """
from pulse.celery import install
from shop_celery import app

install(app, "shop_site:app")
"""

COMMANDS = {
    "celery": ["-A", "shop_installed", "worker", "-Q", "pulse", "-l", "info"],
    "pulse": ["worker", "shop_site:app", "--", "-l", "info"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_worker_loads_an_application_of_its_folder(tmp_path: Path, command: str) -> None:
    """Without PYTHONPATH, as gunicorn does."""
    (tmp_path / "shop_views.py").touch()
    (tmp_path / "shop_celery.py").write_text(OWN)
    (tmp_path / "shop_installed.py").write_text(INSTALLED)
    broker = "shop_celery:app"
    (tmp_path / "shop_site.py").write_text(APP.format(broker=broker, folder=tmp_path))
    words = [program(command), *COMMANDS[command], "-c", "1"]
    server = Server(words, port=None, folder=tmp_path, environ={"PYTHONPATH": None})
    server.start()
    try:
        wait_until(
            lambda: "executes posted runs of 0 tasks" in server.log_text(),
            what="the start of the worker",
            log=server.log_text,
        )
        assert server.stop(SIGTERM, timeout=60) == 0
    finally:
        server.close()
