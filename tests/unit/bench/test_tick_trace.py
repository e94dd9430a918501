"""How a tick is found among the calls, and imports among the modules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

MODULES = {
    "__init__": "",
    "above": "import pkg.room.inner",
    "below": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg import above",
    "room/__init__": "",
    "room/inner": "from pkg.below import thing\ndef late():\n    from pkg.room import other",
    "room/other": "from pkg.room.inner import late",
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return a package of a few modules."""
    for name, text in MODULES.items():
        path = tmp_path / "pkg" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path / "pkg"


def test_the_layout_is_read_from_the_sources(tick_trace: ModuleType, package: Path) -> None:
    """Circles at load are distinguished from circles by functions or types."""
    assert tick_trace.layout(package) == {
        "modules": 6,
        "files at the root": 3,
        "rooms": 4,
        "imports between rooms": 3,
        "import circles": [],
        "import circles, with functions and types": [
            ["pkg.above", "pkg.below", "pkg.room.inner", "pkg.room.other"]
        ],
    }


def test_a_circle_at_load_is_found(tick_trace: ModuleType, package: Path) -> None:
    """It names its modules."""
    (package / "below.py").write_text("from pkg.room.other import late")
    found = tick_trace.layout(package)["import circles"]
    assert found == [["pkg.below", "pkg.room.inner", "pkg.room.other"]]


def test_a_move_is_a_call_in_another_file_of_the_same_thread(tick_trace: ModuleType) -> None:
    """Threads that take turns are no moves."""
    files = [(1, "a"), (2, "c"), (1, "b"), (2, "c"), (0, tick_trace.APP), (1, "b"), (1, "a")]
    burst = [(0.0, thread, file) for thread, file in files]
    assert tick_trace.figures_of(burst) == (6, frozenset("abc"), 4)


@pytest.mark.parametrize("runs", [0, 2])
def test_a_burst_with_another_number_of_runs_is_no_tick(tick_trace: ModuleType, runs: int) -> None:
    """A heartbeat has none, and two ticks at once have two."""
    burst = [(0.0, 1, "a"), *[(0.0, 0, tick_trace.APP)] * runs]
    assert tick_trace.figures_of(burst) is None


def test_the_most_frequent_tick_counts(tick_trace: ModuleType) -> None:
    """One with a heartbeat in it is another."""
    app, calls, now = tick_trace.APP, [], 0.0
    for files in ("x", "ab", "ab", "abcd", "ab", "x"):
        now += 1
        calls += [(now, 1, file) for file in files] + [(now, 0, app)]
    assert tick_trace.most_frequent(calls) == {
        "calls": 2,
        "files": 2,
        "of the store": 0,
        "moves": 2,
        "alike": 3,
        "ticks": 4,
    }
