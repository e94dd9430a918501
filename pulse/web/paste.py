"""`egg:pulse#api` and `egg:pulse#dashboard`: applications to mount by a composite section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pulse.clock import SystemClock
from pulse.config.access_rules import access_rules
from pulse.config.converters import origins, redact
from pulse.core.policies import Output
from pulse.errors import BadValueError, ConfigError
from pulse.settings.converters import choice
from pulse.web.api import PulseApi
from pulse.web.build import shown_output
from pulse.web.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.web.dashboard.application import PulseDashboard


_KEYS = ("access", "trusted_origins", "output", "redact")


def make_api(_global_conf: Mapping[str, str], **local_conf: str) -> PulseApi:
    """Return the API with the keys of `_KEYS`: the factory of `egg:pulse#api`.

    Raises:
        ConfigError: a key is missing, unknown or wrong.

    """
    return PulseApi(**_words("API", local_conf))


def make_dashboard(_global_conf: Mapping[str, str], **local_conf: str) -> PulseDashboard:
    """Return the dashboard with the keys of `_KEYS`: the factory of `egg:pulse#dashboard`.

    Raises:
        ConfigError: a key is missing, unknown or wrong.
        MissingExtraError: Jinja2 is not installed.

    """
    from pulse.web.dashboard.application import PulseDashboard

    return PulseDashboard(**_words("dashboard", local_conf))


def _words(what: str, local_conf: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of an application for the keys of its section."""
    unknown = sorted(local_conf.keys() - set(_KEYS))
    problems = [f"{key}: expected one of {', '.join(_KEYS)}, got this key" for key in unknown]
    if "access" not in local_conf:
        problems.append(
            f"access: expected who may use the {what}, such as read token:${{PULSE_TOKEN}}"
        )
    if problems:
        raise ConfigError(problems)
    clock = SystemClock()
    try:
        gate = Gate(access_rules(local_conf["access"]), clock)
        trusted = origins(local_conf["trusted_origins"]) if "trusted_origins" in local_conf else ()
        output = shown_output(
            choice(Output)(local_conf.get("output", "full")),
            redact(local_conf["redact"]) if "redact" in local_conf else None,
        )
    except BadValueError as error:
        raise ConfigError([str(error)]) from None
    return {
        "access": gate.access_of,
        "trusted_origins": trusted,
        "output": output,
        "challenges": gate.challenges,
        "clock": clock,
    }
