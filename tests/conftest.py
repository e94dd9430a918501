"""Makes the shared harness importable."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "harness"))

# A shell that starts a suite in the background lets it ignore Ctrl-C, and every server in it too.
signal.signal(signal.SIGINT, signal.default_int_handler)
