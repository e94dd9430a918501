"""Whether the server around this process serves in this process alone.

The development servers of Flask, Django, Bottle and Python itself (`flask run`, `runserver`,
`wsgiref`) build on `socketserver`, and serve in the process that calls them, unless they are
configured to fork for each request. Of every other server the number of processes is unknown here:
waitress, for example, is often started several times behind a proxy.
"""

from __future__ import annotations

import sys

from pulse.serving.call_stack import frames_out, module_of


def serves_alone() -> bool:
    """Return whether this call is made in a request of a server that runs one process."""
    for frame in frames_out():
        # A handler of requests does all its work in its constructor, which has the server.
        if module_of(frame) == "socketserver" and frame.f_code.co_name == "__init__":
            forking = getattr(sys.modules["socketserver"], "ForkingMixIn", ())
            return not isinstance(frame.f_locals.get("server"), forking)
    return False
