"""No name that the glossary has replaced comes back, neither of a module nor within one."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pulse"
WRITTEN_BY_OLD_RELEASE = ROOT / "tests/contracts/stored"
"""Programs of an older release: the scripts that made the stored data use the names of that one."""

MODULES = """
    addition announce child compose convert declaration dispatch endings environ guard insider lines
    log pacing planner policy reply retry run runner scheduler setting spelling task telling visitor
    config.adding config.load config.sections config.words
    engine.attempt engine.children engine.nursery engine.loop engine.native engine.registry
    engine.spawned engine.wire
    schedule.days schedule.dialect schedule.walls schedule.grids schedule.walk schedule.zone
    schedule.window schedule.parse schedule.words schedule.jitter
    serving.arrangement serving.frames serving.gunicorn_worker serving.hooks serving.uwsgi_worker
    serving.waitress_main serving.never serving.roll
    simulation.changes simulation.hours
    cli.findings cli.table cli.ini cli.upcoming
    store.registry store.member store.decide store.steps store.changes store.configs store.deploys
    store.patience store.watch store.places store.roster store.ledger store.rows store.turn
    store.unheld
    store.sql.keeper store.sql.here store.sql.link store.sql.due store.sql.unheld store.sql.records
    store.sql.additions store.sql.configs
    store.sqlite.keeper store.sqlite.file store.sqlite.link store.sqlite.aside store.sqlite.history
    store.postgres.keeper store.postgres.server store.postgres.link store.postgres.tables
    store.postgres.wire store.postgres.pages store.postgres.greenlets
    store.redis.keeper store.redis.server store.redis.records store.redis.losses
    store.redis.reading store.redis.writing store.redis.left store.redis.trust store.redis.unheld
    store.redis.syncing store.redis.definitions store.redis.additions store.redis.configs
    testing.trip testing.virtual testing.search testing.stage testing.behaviour testing.fleet
    """.split()  # noqa: SIM905 - a list of words is easier to read
"""Modules of the old layout, below `pulse`; a package of the name is another thing."""

NAMES = """
    Definition Usual usual_of USUAL usual_concurrency Addition define_words remembering
    define_values _lacking _crossed Try tries Ending ENDED place_of spot_of unheld_run at_once
    Passed wake_at unplanned Won Intent Beat look_at Verdict judge_unheld judge_found sift_unheld
    taken_run ended_run retried_run hastened_run given_up_run released_run abandoned_run
    Standing standing_of superseded_by put_away Watch Trust Patience put_off Knocks KNOCK knock
    How Ladder bring_up Plant Assembly rehearse Endings record_last _strike_off Telling
    Roll Interrupts Errand Opening Readiness Spawned Served Host Arrangement
    Reception Reply KEPT LONGEST _holds_scattered StepFailed TasksTaken StoreLost StoreBack
    RunGivenUp ConfigsDiffer MembersDiffer Trip TripRun Reach Standable Visitor
    """.split()  # noqa: SIM905 - a list of words is easier to read
"""Classes, functions and constants that no definition may have."""

MEMBERS = {
    "Run": "slot place tries",
    "NewRun": "slot",
    "NotRun": "slot",
    "RuntimeTask": "words",
    "Cursor": "floor",
    "Task": "given spell define at_once",
    "TaskDefinition": "room at_once",
    "TaskState": "place running",
    "Plan": "passed",
    "Claimed": "wake_at unplanned given_up passed",
    "HeartbeatResult": "look_at passed",
    "SyncResult": "taken passed",
    "Store": "beat visit",
    "ExpiryWatch": "look mark",
    "Member": "mark",
    "Connection": "among add change change_each",
    "PulseRuntime": "begin quiet end rehearse ask",
    "Scheduler": "call quiet",
    "Completer": "hold held take record record_last",
    "Reporter": "tell told",
    "InFlight": "leave left take",
    "ServiceLifecycle": "enter belong begin quiet end",
    "CanonicalPath": "loose stem",
    "Guard": "passed",
    "EventBus": "heard",
}
"""Members by the name of their class as it is now."""


def python_files() -> list[Path]:
    """Return the files of the project, without what an older release wrote."""
    folders = ("pulse", "tests", "bench", "examples", "docs")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return [path for path in found if not path.is_relative_to(WRITTEN_BY_OLD_RELEASE)]


def old_imports(tree: ast.Module) -> Iterator[str]:
    """Yield each import of a module of the old layout, with its line."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.startswith("pulse.") and is_old_module(name.removeprefix("pulse.")):
                yield f"line {node.lineno}: import of {name}"


def is_old_module(name: str) -> bool:
    """Return whether *name*, below `pulse`, was a module that is gone."""
    path = PACKAGE / name.replace(".", "/")
    return name in MODULES and not path.is_dir()


def old_definitions(tree: ast.Module) -> Iterator[str]:
    """Yield each definition under a replaced name, with its line."""
    for node, name in definitions(tree):
        if name in NAMES:
            yield f"line {node.lineno}: {name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name in MEMBERS:
            old = set(MEMBERS[node.name].split())
            yield from (
                f"line {found.lineno}: {node.name}.{name}"
                for found, name in members(node)
                if name in old
            )


def definitions(tree: ast.AST) -> Iterator[tuple[ast.stmt, str]]:
    """Yield classes, functions, and the targets of assignments that are no local variables."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef):
            yield node, node.name
            yield from members(node)
            yield from definitions(node)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((node, one.id) for one in targets if isinstance(one, ast.Name))
        elif isinstance(node, ast.If | ast.Try):
            yield from definitions(node)


def members(owner: ast.ClassDef) -> Iterator[tuple[ast.stmt, str]]:
    """Yield methods, fields, and the attributes that methods set, without leading underscores."""
    for node in owner.body:
        if isinstance(node, ast.FunctionDef):
            yield node, node.name.lstrip("_")
            yield from set_attributes(node)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node, node.target.id.lstrip("_")


def set_attributes(method: ast.FunctionDef) -> Iterator[tuple[ast.stmt, str]]:
    """Yield the attributes of `self` that a method assigns."""
    for node in ast.walk(method):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Attribute) and ast.unparse(target.value) == "self":
                    yield node, target.attr.lstrip("_")


@pytest.mark.parametrize("name", sorted(MODULES))
def test_no_file_has_the_name_of_an_old_module(name: str) -> None:
    """A module that was renamed does not come back beside the new one."""
    assert not (PACKAGE / f"{name.replace('.', '/')}.py").exists()


def test_no_import_names_an_old_module() -> None:
    """Also not within functions, where an import fails only when the function runs."""
    found = {
        f"{path.relative_to(ROOT)}, {problem}"
        for path in python_files()
        for problem in old_imports(ast.parse(path.read_text()))
    }
    assert found == set()


def test_no_definition_has_a_replaced_name() -> None:
    """Classes, functions, fields and attributes have the words of the glossary."""
    found = {
        f"{path.relative_to(ROOT)}, {problem}"
        for path in PACKAGE.rglob("*.py")
        for problem in old_definitions(ast.parse(path.read_text()))
    }
    assert found == set()


def test_no_page_names_an_old_module() -> None:
    """A path such as `pulse.store.keeper` in a page, an ini file or a test misleads its reader."""
    mention = re.compile(r"pulse((?:\.[a-z_]+)+)")
    pages = [path for kind in ("*.md", "*.toml", "*.ini") for path in ROOT.glob(f"**/{kind}")]
    found = {
        f"{path.relative_to(ROOT)}: pulse{name}"
        for path in pages
        if ".venv" not in path.parts and path.name != "CHANGELOG.md"
        for name in mention.findall(path.read_text())
        if is_old_module(name.removeprefix(".")) and f"pulse{name}" not in SETTINGS
    }
    assert found == set()


SETTINGS = frozenset({"pulse.task", "pulse.scheduler", "pulse.run", "pulse.guard", "pulse.log"})
"""What a user writes and is no module: keys of a configuration, of the environ and of logging."""


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("import pulse.store.keeper", ""),
        ("import pulse.store.sql.keeper", "line 1: import of pulse.store.sql.keeper"),
        ("from pulse.store.sql import keeper", "line 1: import of pulse.store.sql.keeper"),
        ("from pulse import task", "line 1: import of pulse.task"),
        ("from pulse.log import messages", ""),
    ],
)
def test_import_of_an_old_module_is_found(source: str, problem: str) -> None:
    """Whatever form the import has; a package that took the name is another thing."""
    assert "".join(old_imports(ast.parse(source))) == problem


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("class Beat: pass", "line 1: Beat"),
        ("def place_of(): pass", "line 1: place_of"),
        ("KNOCK = 1", "line 1: KNOCK"),
        ("class Run:\n    slot: int", "line 2: Run.slot"),
        ("class Other:\n    slot: int", ""),
        ("class Cursor:\n    def __init__(self):\n        self._floor = 1", "line 3: Cursor.floor"),
    ],
)
def test_definition_under_a_replaced_name_is_found(source: str, problem: str) -> None:
    """Words that are good elsewhere are refused in the class that has another for them."""
    assert "".join(old_definitions(ast.parse(source))) == problem
