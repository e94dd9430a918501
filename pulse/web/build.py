"""Builds what is served for one middleware, from its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pulse.engine.child_application import find_named
from pulse.web.api import PulseApi
from pulse.web.documents import ShownOutput
from pulse.web.gate import Gate
from pulse.web.health import Probes
from pulse.web.mounts import Mounts

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

    from pulse.clock import Clock
    from pulse.config.settings import Settings
    from pulse.core.policies import Output
    from pulse.handle.handle import SchedulerHandle
    from pulse.scheduler.condition import Condition


def build_mounts(
    settings: Settings,
    handle: SchedulerHandle,
    condition: Callable[[], Condition],
    clock: Clock,
) -> Mounts:
    """Return what the settings mount.

    Raises:
        ConfigError: an environment variable that a rule of `access` names is missing or wrong.

    """
    gate = Gate(settings.access, clock) if settings.access else None
    probes = Probes(handle, condition, None if gate is None else gate.access_of, clock)
    applications: dict[str, WSGIApplication] = {}
    if gate is not None:
        words: dict[str, Any] = {
            "access": gate.access_of,
            "trusted_origins": settings.trusted_origins,
            "output": shown_output(settings.output, settings.redact),
            "handle": handle,
            "challenges": gate.challenges,
            "clock": clock,
        }
        if settings.api is not None:
            applications[settings.api] = PulseApi(**words)
        if settings.dashboard is not None:
            from pulse.web.dashboard.application import PulseDashboard

            applications[settings.dashboard] = PulseDashboard(name=settings.name or "", **words)
    return Mounts(applications, health=settings.health, probes=probes)


def shown_output(output: Output, redact: str | Callable[[str, str], str] | None) -> ShownOutput:
    """Return what the settings `output` and `redact` show; a name is looked up at each call."""
    if not isinstance(redact, str):
        return ShownOutput(output, redact)
    name = redact

    def call(text: str, task: str) -> str:
        return str(find_named(name)(text, task))  # type: ignore[operator] # the error says so

    return ShownOutput(output, call)
