"""The words of `pulse.config.mode`, and what they load."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints
from typing import TYPE_CHECKING, NamedTuple

import pytest

from pulse.carrier.base import CarrierSetup
from pulse.clock import SECOND
from pulse.engine import factory
from pulse.engine.base import EngineCallbacks
from pulse.engine.child_protocol import ChildSetup
from pulse.engine.factory import (
    EngineSetup,
    added_modes,
    load_engine,
    missing_mode,
    posts_runs,
    resolve,
)
from pulse.engine.inline import InlineEngine
from pulse.engine.posted import PostedEngine
from pulse.engine.threads import ThreadEngine
from pulse.errors import ConfigError, MissingExtraError
from pulse.testing.clock import FakeClock
from pulse.testing.memory_carrier import MemoryBroker

if TYPE_CHECKING:
    from pulse.carrier.base import Carrier
    from pulse.engine.base import Engine

SETUP = EngineSetup(clock=FakeClock(), child=ChildSetup(application="site:app"))


class Patching(NamedTuple):
    """Stands for `gevent.monkey`, which says whether a module is patched."""

    patched: bool

    def is_module_patched(self, name: str) -> bool:
        """Return the answer for the module that is asked about."""
        return self.patched and name == "socket"


def set_patched(monkeypatch: pytest.MonkeyPatch, patched: bool | None) -> None:  # noqa: FBT001 - three answers
    """Let the process look patched, unpatched, or (None) as if gevent was never imported."""
    if patched is None:
        monkeypatch.delitem(sys.modules, "gevent.monkey", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "gevent.monkey", Patching(patched))


@pytest.mark.parametrize(
    ("mode", "patched", "expected"),
    [
        ("threading", None, ("threading", "")),
        ("threading", False, ("threading", "")),
        ("threading", True, ("threading", factory.PATCHED_NOTICE)),
        ("gevent", True, ("gevent", "")),
        ("gevent", False, ("threading", factory.UNPATCHED_NOTICE)),
        ("gevent", None, ("threading", factory.UNPATCHED_NOTICE)),
        ("auto", True, ("gevent", "")),
        ("auto", False, ("threading", "")),
        ("auto", None, ("threading", "")),
        ("processing", True, ("processing", "")),
        ("processing", None, ("processing", "")),
        ("inline", None, ("inline", factory.INLINE_NOTICE)),
        ("celery", True, ("celery", "")),
        ("celery", None, ("celery", "")),
    ],
)
def test_each_word_stands_for_a_mode_in_this_process(
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    patched: bool | None,  # noqa: FBT001 - a column of the table
    expected: tuple[str, str],
) -> None:
    """What a mode comes to depends on whether gevent has patched the process."""
    set_patched(monkeypatch, patched)
    assert resolve(mode) == expected


@pytest.mark.parametrize("mode", ["threading", "gevent", "processing", "inline", "celery"])
def test_each_mode_loads_the_engine_of_its_name(mode: str) -> None:
    """The engine that a word loads bears that word as its name."""
    assert load_engine(mode, SETUP).name == mode


def test_a_misspelt_mode_is_an_error_that_names_the_nearest() -> None:
    """The message names the key, the modes there are, what came, and the likely word."""
    with pytest.raises(ConfigError) as caught:
        resolve("gevnt")
    assert str(caught.value) == (
        "pulse.config.mode: expected one of threading, gevent, processing, inline, celery, auto, "
        "got 'gevnt'; did you mean 'gevent'?"
    )


def test_gevent_that_is_not_installed_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`mode = gevent` without the package says what to install, rather than run something else."""
    set_patched(monkeypatch, None)
    monkeypatch.setattr(factory, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pulse\[gevent\]'"):
        resolve("gevent")


def test_celery_that_is_not_installed_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`mode = celery` without the package says what to install, also where a page checks modes."""
    monkeypatch.setattr(factory, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'pulse\[celery\]'"):
        resolve("celery")
    assert "pulse[celery]" in missing_mode("celery")


def test_processing_without_an_application_is_an_error_that_names_the_setting() -> None:
    """Children must know where the application is."""
    with pytest.raises(ConfigError, match=r"pulse\.config\.application"):
        load_engine("processing", EngineSetup(clock=FakeClock()))


def make_foreign(setup: EngineSetup) -> Engine:
    """Return the engine of another package, as its entry point does."""
    return InlineEngine(setup.clock)


def install(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, *, group: str = "pulse.engines"
) -> None:
    """Let another package offer a mode."""
    points = EntryPoints([EntryPoint(name, value, group)])
    monkeypatch.setattr("importlib.metadata.entry_points", points.select)
    monkeypatch.setitem(sys.modules, "a_foreign_package", sys.modules[__name__])


def test_another_package_can_add_a_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that is not pulse's own is looked up in the entry points of `pulse.engines`."""
    install(monkeypatch, "fibers", "a_foreign_package:make_foreign")
    mode, notice = resolve("fibers")
    assert (notice, type(load_engine(mode, SETUP))) == ("", InlineEngine)


BROKER = MemoryBroker(FakeClock())
SETUPS: list[CarrierSetup] = []


def make_foreign_carrier(setup: CarrierSetup) -> Carrier:
    """Return the carrier of another package, as its entry point does."""
    SETUPS.append(setup)
    return BROKER.make_carrier()


def test_another_package_can_add_a_carrier(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry point of the group `pulse.carriers` gets the settings when the engine starts."""
    name, value = "pigeons", "a_foreign_package:make_foreign_carrier"
    install(monkeypatch, name, value, group="pulse.carriers")
    carrier = CarrierSetup(broker="roof", queue="slow", wait_us=7 * SECOND)
    mode, notice = resolve(name)
    engine = load_engine(mode, EngineSetup(clock=FakeClock(), carrier=carrier))
    SETUPS.clear()
    engine.start(EngineCallbacks(*[lambda *_: None] * 3), concurrency=1)
    engine.stop(0)
    assert (notice, type(engine), engine.name, SETUPS) == ("", PostedEngine, name, [carrier])
    assert (posts_runs(name), added_modes(), missing_mode(name)) == (True, {name}, "")


def test_modes_that_execute_runs_do_not_post_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither those of pulse nor an engine of another package."""
    install(monkeypatch, "fibers", "a_foreign_package:make_foreign")
    modes = ["threading", "gevent", "processing", "inline", "auto", "fibers", "celery"]
    assert [mode for mode in modes if posts_runs(mode)] == ["celery"]


def test_celery_is_no_mode_of_another_package() -> None:
    """Its entry point belongs to pulse."""
    assert "celery" not in added_modes()


def test_a_mode_of_another_package_is_among_those_expected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An error about an unknown word names the modes of other packages too."""
    install(monkeypatch, "fibers", "a_foreign_package:make_foreign")
    with pytest.raises(ConfigError, match="auto, fibers, got 'fibres'; did you mean 'fibers'"):
        resolve("fibres")


def test_a_mode_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dependency that another package lacks is named with the mode that wants it."""
    install(monkeypatch, "fibers", "no_such_package:make")
    with pytest.raises(MissingExtraError, match=r"mode = fibers.*no_such_package"):
        load_engine("fibers", SETUP)


def test_entry_points_are_not_scanned_for_own_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package cannot take a word that is pulse's own."""
    install(monkeypatch, "threading", "a_foreign_package:make_foreign")
    assert type(load_engine(resolve("threading")[0], SETUP)) is ThreadEngine


def test_only_the_chosen_engine_is_imported() -> None:
    """Neither gevent, nor another engine, nor the scan for entry points is paid for in vain."""
    program = (
        "import sys; from pulse.clock import SystemClock; "
        "from pulse.engine.factory import EngineSetup, load_engine, resolve; "
        "load_engine(resolve('auto')[0], EngineSetup(clock=SystemClock())); "
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    dear = {
        *("gevent", "celery", "kombu", "pulse.engine.greenlets", "pulse.engine.processes"),
        *("pulse.engine.inline", "pulse.engine.posted"),
    }
    assert dear.intersection(done.stdout.split()) == set()
