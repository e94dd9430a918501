"""`python -m pulse` is the command `pulse`."""

from __future__ import annotations

import sys

from pulse.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
