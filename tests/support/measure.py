"""How coverage measures the processes that tests start.

Under gevent it must tell greenlets apart. Elsewhere it must not: on Python 3.11 a thread that dies
while coverage watches greenlets may leave its process spinning for ever, because the interpreter
runs coverage's clean-up as a pending call and comes back to it at each traced function.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONFIG = "COVERAGE_PROCESS_CONFIG"


def measured_by_greenlet(environ: Mapping[str, str]) -> dict[str, str]:
    """Return *environ* for a process that gevent patches; unchanged where nothing is measured."""
    given = environ.get(_CONFIG)
    if given is None:
        return dict(environ)
    config = json.loads(base64.b64decode(given))
    config["concurrency"] = ["greenlet", "thread"]
    return {**environ, _CONFIG: base64.b64encode(json.dumps(config).encode()).decode()}
