"""The values of `pulse.config.mode`, and the engine that each of them names.

An engine's module is imported only when it is chosen. Other packages add modes by an entry point
of the group `pulse.engines`: its name is the value of the setting, its object takes an
`EngineSetup` and returns an `Engine`. An entry point of the group `pulse.carriers` adds a mode that
hands runs over to workers (`pulse.carrier.base`). They are searched only if the value is no mode
of pulse.
"""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import msgspec

from pulse.carrier.base import GROUP as CARRIERS
from pulse.carrier.base import CarrierSetup
from pulse.clock import Clock  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.engine.child_protocol import ChildSetup  # noqa: TC001 - likewise
from pulse.errors import ConfigError, MissingExtraError, did_you_mean, missing_extra, shown
from pulse.patching import process_is_patched

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.metadata import EntryPoint, EntryPoints

    from pulse.engine.base import Engine

GROUP: Final = "pulse.engines"

KEY: Final = "pulse.config.mode"

CELERY: Final = "celery"
"""The mode whose carrier is a part of pulse."""

UNPATCHED_NOTICE: Final = (
    "mode gevent needs a process that gevent has patched, and this one is not: runs happen in "
    "threads here (mode = auto chooses so without this notice)"
)
PATCHED_NOTICE: Final = (
    "mode threading in a process that gevent has patched: its threads are greenlets, and no run "
    "is interrupted (mode = gevent or auto interrupts runs that wait)"
)

INLINE_NOTICE: Final = (
    "mode inline runs nothing by itself: it is for tests, which call the scheduler's step"
)


class EngineSetup(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of an engine.

    Attributes:
        clock: measures timeouts.
        child: how a child process finds the application; None if the configuration does not say.
            Only engines with children need it.
        carrier: the settings of the carrier, for engines that hand runs over.

    """

    clock: Clock
    child: ChildSetup | None = None
    carrier: CarrierSetup = CarrierSetup()


def resolve(mode: str) -> tuple[str, str]:
    """Return the mode that applies in this process, and a notice if a person should know of it.

    Raises:
        ConfigError: no engine has that name.
        MissingExtraError: the engine needs a package that is not installed.

    """
    match mode, process_is_patched():
        case "auto", patched:
            return ("gevent" if patched else "threading"), ""
        case "gevent", False:
            _check_gevent()
            return "threading", UNPATCHED_NOTICE
        case "threading", True:
            return mode, PATCHED_NOTICE
        case "inline", _:
            return mode, INLINE_NOTICE
    if mode == CELERY:
        _check_celery()
    elif mode not in BUILDERS:
        _find_entry_point(mode)
    return mode, ""


def load_engine(mode: str, setup: EngineSetup) -> Engine:
    """Return the engine of a mode that `resolve` has answered, not yet started.

    Raises:
        ConfigError: no engine has that name, or its setup lacks something.
        MissingExtraError: the engine needs a package that is not installed.

    """
    build = BUILDERS.get(mode)
    if build is not None:
        return build(setup)
    entry = _find_entry_point(mode)
    if entry.group != CARRIERS:
        engine: Engine = _load(entry)(setup)
        return engine
    from pulse.engine.posted import PostedEngine

    make = partial(_load(entry), setup.carrier)
    return PostedEngine(mode, setup.clock, make_carrier=make, setup=setup.carrier)


def posts_runs(mode: str) -> bool:
    """Return whether the engine of a mode hands runs over to workers, instead of executing them."""
    if mode in OWN_MODES or not mode:
        return mode == CELERY
    return _find_entry_point(mode).group == CARRIERS


def missing_mode(mode: str) -> str:
    """Return a sentence if a process could not load the engine of *mode*; empty if it could."""
    try:
        if mode == "gevent":
            _check_gevent()
        elif mode == CELERY:
            _check_celery()
        elif mode not in OWN_MODES:
            _load(_find_entry_point(mode))
    except (ConfigError, MissingExtraError) as error:
        return str(error)
    return ""


def carrier_problem(mode: str, setup: CarrierSetup) -> str:
    """Return a sentence if a process could not make the carrier of *mode*; empty if it could.

    The broker is not asked.
    """
    if missing_mode(mode) or not posts_runs(mode):
        return ""
    try:
        _load(_find_entry_point(mode))(setup)
    except (ConfigError, MissingExtraError) as error:
        return str(error)
    return ""


def _threading(setup: EngineSetup) -> Engine:
    from pulse.engine.threads import ThreadEngine

    return ThreadEngine(setup.clock)


def _gevent(setup: EngineSetup) -> Engine:
    _check_gevent()
    from pulse.engine.greenlets import GreenletEngine

    return GreenletEngine(setup.clock)


def _processing(setup: EngineSetup) -> Engine:
    if setup.child is None:
        raise ConfigError(
            [f"pulse.config.application: expected package.module:name for {KEY} = processing"]
        )
    from pulse.engine.processes import ProcessEngine

    return ProcessEngine(setup.clock, child=setup.child)


def _inline(setup: EngineSetup) -> Engine:
    from pulse.engine.inline import InlineEngine

    return InlineEngine(setup.clock)


BUILDERS: Final[Mapping[str, Callable[[EngineSetup], Engine]]] = {
    "threading": _threading,
    "gevent": _gevent,
    "processing": _processing,
    "inline": _inline,
}

OWN_MODES: Final = (*BUILDERS, CELERY, "auto")


def _check_gevent() -> None:
    if find_spec("gevent") is None:
        raise missing_extra(f"{KEY} = gevent", "gevent", "gevent")


def _check_celery() -> None:
    if find_spec("celery") is None:
        raise missing_extra(f"{KEY} = {CELERY}", "celery", "celery")


def added_modes() -> set[str]:
    """Return the modes that other packages add."""
    return {entry.name for entry in _added_entry_points()} - {CELERY}


def _added_entry_points() -> EntryPoints:
    from importlib.metadata import EntryPoints, entry_points  # slow to import, and seldom needed

    return EntryPoints((*entry_points(group=GROUP), *entry_points(group=CARRIERS)))


def _find_entry_point(mode: str) -> EntryPoint:
    from importlib.metadata import EntryPoint  # slow to import, and seldom needed

    if mode == CELERY:  # which no other package may replace
        return EntryPoint(CELERY, "pulse.celery.carrier:make_carrier", CARRIERS)
    found = _added_entry_points()
    for entry in found:
        if entry.name == mode:
            return entry
    known = (*OWN_MODES, *sorted(found.names - {CELERY}))
    raise ConfigError(
        [f"{KEY}: expected one of {', '.join(known)}, got {shown(mode)}{did_you_mean(mode, known)}"]
    )


def _load(entry: EntryPoint) -> Callable[..., Any]:
    try:
        build: Callable[..., Any] = entry.load()
    except ImportError as error:
        raise MissingExtraError(
            f"{KEY} = {entry.name}: expected {entry.value} to be importable, got {error}"
        ) from error
    return build
