"""gunicorn's settings for `make demo`, and a fair beginning for a site of your own.

Two environment variables change what it does: MODE (gevent, threading or processing; gevent by
default) says where runs happen, PORT (8000) where it listens. Everything else is plain gunicorn:
pulse needs no hook here, and notices by itself when a worker begins and stops serving.
"""

import os

_mode = os.environ.get("MODE", "gevent")

bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"
workers = 4
# Not gthread: Ctrl-C in a terminal reaches a worker twice, and may lock up gunicorn 27's gthread.
worker_class = "gevent" if _mode == "gevent" else "sync"
preload_app = False

# Becomes %(mode)s in the ini file.
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
