"""Decides in which processes pulse runs, and starts and stops it there.

`install` is called where the middleware is built. It detects the server that builds it and starts
pulse once in each process that serves requests, after the last fork, and in no other process.
"""

from pulse.serving.base import Server, Service
from pulse.serving.installation import install
from pulse.serving.lifecycle import ServiceLifecycle

__all__ = ["Server", "Service", "ServiceLifecycle", "install"]
