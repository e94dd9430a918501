"""gunicorn's settings for `make demo`, and a fair beginning for a site of your own.

Two environment variables change what it does: MODE (gevent, threading, processing or celery;
gevent by default) says where runs happen, PORT (8000) where it listens. Everything else is plain
gunicorn: pulse needs no hook here, and notices by itself when a worker begins and stops serving.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

_mode = os.environ.get("MODE", "gevent")

bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"
workers = 4
worker_class = "gevent" if _mode == "gevent" else "gthread"
threads = 4  # gthread's; gevent has no use for it
preload_app = False

# Replaces `mode` of [DEFAULT] in the ini file.
raw_paste_global_conf = [f"mode={_mode}"]

# Its place would be in the home directory, where two sites would meet.
control_socket_disable = True

# pulse writes a line for each run on the logger `pulse`.
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "format": "%(asctime)s %(name)s: %(message)s",
            "datefmt": "%H:%M:%S",
        }
    },
    "handlers": {
        "terminal": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "stream": "ext://sys.stderr",
        }
    },
    "root": {"level": "WARNING", "handlers": ["terminal"]},
    "loggers": {
        "pulse": {"level": "INFO"},
        # gunicorn cuts its loggers off; INFO would add a line for each of its own steps
        "gunicorn.error": {"level": "WARNING", "propagate": True},
    },
}


def post_worker_init(worker: Worker) -> None:
    """Name the first worker: whoever ends it sees that the others go on with the schedule."""
    if worker.age == 1:
        log = logging.getLogger("demo")
        log.warning("kill %d ends a worker; another one takes over its tasks", worker.pid)


def post_fork(_server: object, _worker: object) -> None:
    """Leave Ctrl-C to the master.

    A terminal sends it to the whole group of processes, and the master then tells the workers
    again: that cuts the end of a gevent worker short, and can lock up a gthread one (gunicorn 27).
    """
    os.setpgrp()
