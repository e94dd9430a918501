"""The layers of the package, from the contract in `pyproject.toml`, and a sentence for each module.

A module or package directly in `pulse/` that is given a place in the contract needs a sentence
here; a test compares them.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

SENTENCES = {
    "__main__": "`python -m pulse`",
    "cli": "the command line",
    "celery": "the worker of mode `celery`, and what sends runs to it",
    "worker": "the process of a worker: takes posted runs and executes them",
    "gunicorn": "optional hooks for `gunicorn.conf.py`",
    "testing": "the test kit for applications and engines",
    "middleware": "the WSGI middleware: one look-up on an ordinary request",
    "runtime": "builds, starts and stops everything that belongs to one middleware",
    "serving": "finds out whether and when this process serves requests",
    "child": "the child process of mode `processing`, and its access to the store",
    "web": "the JSON API and the probes, served beside the application",
    "handle": 'what the application holds: `environ["pulse.scheduler"]`',
    "scheduler": "the loop of one process",
    "config": "ini files and keywords into settings",
    "log": "writes events to the logger `pulse`",
    "wsgi": "from a claim to a WSGI call, and from the response to a result",
    "guard": "who may request a scheduled path, and who a marked view",
    "store": "where processes agree on who runs a tick, and where history is kept",
    "engine": "where runs happen",
    "carrier": "the interface of what sends runs to the workers of a queue",
    "events": "one frozen class for each kind of event, and the bus",
    "accounting": "what became of each fire time, from the records",
    "simulation": "what a schedule will do, without running it",
    "core": "tasks, runs and the rules that decide on them, without clock and without I/O",
    "schedule": "when a task is due",
    "settings": "how a setting is described, converted and written back as text",
    "clock": "the only module that asks the time",
    "forks": "makes the copies of a scheduler in a forked child inert",
    "errors": "every error that pulse raises",
    "logger": "the logger `pulse`, whose failures appear even if the logger is disabled",
    "patching": "whether gevent has patched this process",
}


def layers() -> list[list[str]]:
    """Return the names of the modules in each layer, the highest layer first."""
    contracts = tomllib.loads(PYPROJECT.read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = (one for one in contracts if one["type"] == "layers")
    return [[name.strip(" ()") for name in layer.split("|")] for layer in contract["layers"]]


def listing() -> str:
    """Return a numbered Markdown list of the layers."""
    return "".join(f"1. {'; '.join(map(_entry, names))}.\n" for names in layers())


def _entry(name: str) -> str:
    return f"`{name}`: {SENTENCES[name]}"
