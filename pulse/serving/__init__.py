"""Which processes serve requests, and when they begin and end.

`arrange` is called where the middleware is built. It looks at who is building it and sees to it
that each process that serves requests begins once, after the last fork, and no other process does.
"""

from pulse.serving.base import Served
from pulse.serving.lifecycle import Arrangement, arrange

__all__ = ["Arrangement", "Served", "arrange"]
