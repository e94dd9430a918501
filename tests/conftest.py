"""Makes the shared harness importable, and tests independent of how fast the machine is."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent / "harness"))

# A shell that starts a suite in the background lets it ignore Ctrl-C, and every server in it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# What takes long on a busy machine is no failure: speed is what the benchmarks are about.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
