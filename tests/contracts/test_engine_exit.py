"""A process with an engine exits without delay and without output."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading, time
{first}
from pulse.clock import SystemClock
from pulse.core.run import Claim, Outcome, Result, Run
from pulse.core.task import Task, build_definition
from pulse.engine.base import EngineCallbacks
from pulse.engine.{module} import {engine}

entered = threading.Event()

def perform(claim):
    entered.set()
    time.sleep(60 if claim.run.task == "nap" else 0)
    return Result(Outcome.SUCCEEDED, 0, 0)

task = build_definition("task", Task(action="/", interval=60))
engine = {engine}(SystemClock())
engine.start(EngineCallbacks(perform, lambda _: None, print), concurrency=4)
engine.loop.spawn(lambda: [engine.loop.wait(60_000_000) for _ in range(60)])
engine.submit(Claim(Run(id="1", task="{kind}", fire_time=0), task, 2**62))
engine.loop.offload(lambda: None)
if not entered.wait(10):
    sys.exit("the run did not begin")
{last}
"""
PATCH = "from gevent import monkey; monkey.patch_all()"


@pytest.mark.parametrize(
    ("kind", "last"), [("quick", ""), ("nap", ""), ("nap", "engine.stop(0)")], ids=str
)
@pytest.mark.parametrize(
    ("module", "engine", "first"),
    [
        ("threads", "ThreadEngine", ""),
        ("threads", "ThreadEngine", PATCH),
        ("greenlets", "GreenletEngine", PATCH),
    ],
    ids=["threads", "threads patched", "greenlets"],
)
def test_process_with_an_engine_exits_without_delay_or_output(
    module: str, engine: str, first: str, kind: str, last: str
) -> None:
    """The engine is idle or busy, stopped or not."""
    program = PROGRAM.format(module=module, engine=engine, first=first, kind=kind, last=last)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
