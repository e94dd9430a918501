"""Which processes serve requests, and when they begin and end.

`arrange` is called where the middleware is built. It looks at who is building it and sees to it
that each process that serves requests begins once, after the last fork, and no other process does.
"""

from pulse.serving.base import Service
from pulse.serving.lifecycle import ServiceLifecycle, install

__all__ = ["Service", "ServiceLifecycle", "install"]
