"""pulse requests the application's own URLs on schedule, once across all workers.

Nothing is loaded until a name is asked for, so `import pulse` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pulse.core.task_settings import Task
    from pulse.guard.decorator import only
    from pulse.guard.guard import is_run
    from pulse.middleware import PulseMiddleware
    from pulse.schedule.calendar_interval import CalendarInterval
    from pulse.schedule.cron import Cron
    from pulse.schedule.interval import Interval
    from pulse.schedule.once import Once

    __version__: str
    """The version of the installed distribution, such as `1.0.0`."""

__all__ = [
    "CalendarInterval",
    "Cron",
    "Interval",
    "Once",
    "PulseMiddleware",
    "Task",
    "is_run",
    "only",
]

_HOMES = {
    "CalendarInterval": "pulse.schedule.calendar_interval",
    "Cron": "pulse.schedule.cron",
    "Interval": "pulse.schedule.interval",
    "Once": "pulse.schedule.once",
    "PulseMiddleware": "pulse.middleware",
    "Task": "pulse.core.task_settings",
    "is_run": "pulse.guard.guard",
    "only": "pulse.guard.decorator",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module at first use (PEP 562)."""
    if name == "__version__":
        from pulse.wsgi.dispatcher import version

        return version()
    home = _HOMES.get(name)
    if home is None:
        message = f"module 'pulse' has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
