"""Waits for the native thread: of a thread, and of a greenlet whose hub goes on meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading

from pulse.clock import SECOND
from pulse.testing.sample_runs import read_seconds
from pulse.worker.bells import ThreadBell, make_bell

BOUND_S = 10.0

PATCHED = """
from gevent import monkey
monkey.patch_all()
import time
import gevent
from gevent.monkey import get_original
from pulse.worker.bells import HubBell, make_bell

start, sleep = get_original("_thread", "start_new_thread"), get_original("time", "sleep")
bell, turns = make_bell(), []

def count():
    while True:
        turns.append(1)
        gevent.sleep(0.001)

def ring():
    while len(turns) < 5:
        sleep(0.001)
    bell.ring()

counting = gevent.spawn(count)
start(ring, ())
rung = bell.wait(10_000_000)
again = bell.wait()
early, late = make_bell(), make_bell()
early.ring()
print(type(bell) is HubBell, rung, again, len(turns) >= 5, early.wait(10_000_000), late.wait(1_000))
counting.kill()
"""


def test_a_ring_ends_the_wait() -> None:
    """Also one that came before it; the bell stays rung."""
    bell = make_bell()
    ringer = threading.Timer(0.01, bell.ring)
    ringer.start()
    rung = [bell.wait(), bell.wait(), bell.wait(round(BOUND_S * SECOND))]
    ringer.join()
    assert (type(bell), rung) == (ThreadBell, [True, True, True])


def test_a_wait_ends_when_its_time_is_over() -> None:
    """And says so."""
    before = read_seconds()
    assert not ThreadBell().wait(SECOND // 100)
    assert 0.01 <= read_seconds() - before < BOUND_S


def test_a_greenlet_waits_while_its_hub_goes_on() -> None:
    """A native thread rings; a wait with a time limit ends by itself."""
    command = [sys.executable, "-c", PATCHED]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["True", "True", "True", "True", "True", "False"]
