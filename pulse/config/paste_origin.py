"""Determines what child processes load if PasteDeploy has built the middleware.

A child repeats the call by which the server loaded its application: the same file, section and
variables. If that call is unknown, the file must permit only one section, or the setting must name
the section.
"""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import msgspec

from pulse.config.settings import PasteOrigin
from pulse.errors import ConfigError, did_you_mean, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.config.layout import Layout
    from pulse.config.settings import PasteCall, Settings

_KEY: Final = "pulse.config.application"


def paste_of(file: str, global_conf: Mapping[str, str], call: PasteCall | None) -> PasteOrigin:
    """Return the arguments of *call*; without a call, those for a section of *file*."""
    if call is None:
        uri = f"config:{quote(str(Path(file).absolute()))}"
        return PasteOrigin(uri=uri, global_conf=dict(global_conf))
    return PasteOrigin(
        uri=call.uri,
        section=call.section,
        relative_to=call.relative_to,
        global_conf=dict(call.global_conf),
    )


def section_problem(section: str, paste: PasteOrigin, call: PasteCall | None) -> str:
    """Return a problem of the section that the setting names; empty if none is known."""
    layout = _layout_behind(paste)
    if layout is None:
        return ""
    known = layout.applications()
    if section not in known:
        hint = did_you_mean(section, known) or f"; there are {', '.join(known)}"
        return f"expected an application of {paste.uri}, got {shown(section)}{hint}"
    if call is None or layout.leads_to(call.within, section):
        return ""
    return (
        f"expected {shown(call.section)}, which is served, or a section that it is made from, got"
        f" {shown(section)}; leave the setting out, and child processes load what is served"
    )


def locate(settings: Settings, local_conf: Mapping[str, str], factory: object) -> Settings:
    """Return *settings* with the section that child processes load, if they need one.

    Args:
        settings: the settings of the section.
        local_conf: the settings that PasteDeploy has passed to *factory*.
        factory: the filter's factory, which makes the call.

    Raises:
        ConfigError: neither the server's call nor the file determines the section.

    """
    paste = settings.paste
    known = paste is None or paste.section or settings.application
    if paste is None or known or settings.mode != "processing":
        return settings
    holders = _holders(paste, local_conf, factory)
    if len(holders) != 1:
        raise ConfigError([_undecided(paste, holders)])
    return msgspec.structs.replace(
        settings, paste=msgspec.structs.replace(paste, section=holders[0])
    )


def _undecided(paste: PasteOrigin, holders: list[str]) -> str:
    got = f"one of {', '.join(holders)}" if holders else "one that the file does not show"
    return (
        f"{_KEY}: expected the section of {paste.uri} that is served, or package.module:name, got"
        f" none; nothing shows which section child processes should load: {got}"
    )


def layout_of(file: Path, global_conf: Mapping[str, str]) -> Layout | None:
    """Return the layout of *file*; None if it is unreadable, which its loading reports."""
    from pulse.config.layout import Layout

    try:
        return Layout(str(file), global_conf)
    except (OSError, ValueError, configparser.Error):
        return None


def _holders(paste: PasteOrigin, local_conf: Mapping[str, str], factory: object) -> list[str]:
    """Return the sections that apply a filter with these settings to an application."""
    from pulse.config.paste import find_filters

    layout = _layout_behind(paste)
    if layout is None:
        return []
    found = find_filters(_path_of(paste), factory, global_conf=paste.global_conf)
    alike = [each.name for each in found if dict(each.local_conf) == dict(local_conf)]
    return layout.referring_to(alike)


def _layout_behind(paste: PasteOrigin) -> Layout | None:
    if not paste.uri.startswith("config:"):
        return None
    return layout_of(_path_of(paste), paste.global_conf)


def _path_of(paste: PasteOrigin) -> Path:
    return Path(paste.relative_to, unquote(paste.uri.removeprefix("config:")))
