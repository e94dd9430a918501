"""Files that one steady tick enters, moves between them, and how the modules import each other.

    python bench/tick_trace.py [--checkout PATH] [--ticks 24] [--json]

The script runs on any layout of the package: it finds the modules by walking the folder, and uses
public names alone. `--checkout` measures another checkout, by the interpreter in its `.venv`.

The trace: a middleware with one task ticks in threads, and a profile function records each call of
a function below `pulse/`. Calls that are less than 50 ms apart are one burst of work, and a burst
with exactly one run is a tick: from the moment the loop wakes to the moment it sleeps again, with
the WSGI call, the record of the run's end and the log listener. A heartbeat that falls due within
the same burst belongs to no tick. So the figures are those of the most frequent burst, and the
last column says how many bursts had exactly these figures. The files of the store are those below
`pulse/store`. A move is a call in another file than
the call before it in the same thread. Python 3.12 and later call no comprehensions: compare
figures of one Python version.

The modules: a room is a file or folder directly in `pulse/`. An import between rooms is a pair of
rooms of which one imports the other, at load, within a function or for types alone. A circle is a
group of modules each of which leads to each other one; those of the first figure are imported at
load, those of the second within functions or for types as well.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

INTERVAL_S = 1.0
SETTLE_S = 1.0
GAP_S = 0.05
STORES = ("memory", "sqlite")
APP = "the app"


# The trace -------------------------------------------------------------------------------


def record_calls(package: Path, calls: list[tuple[float, int, str]]) -> None:
    """Append instant, thread and file of each call below *package*, in threads to come."""
    begin = f"{package}{os.sep}"
    clock, thread = time.perf_counter, threading.get_ident

    def profile(frame, event, _arg):
        if event == "call" and frame.f_code.co_filename.startswith(begin):
            calls.append((clock(), thread(), frame.f_code.co_filename))

    threading.setprofile(profile)


def trace(store: str, ticks: int) -> dict[str, int]:
    """Return the figures of the most frequent tick on *store*, in this process."""
    import pulse

    calls: list[tuple[float, int, str]] = []
    record_calls(Path(pulse.__file__).parent, calls)

    def app(_environ, start_response):
        calls.append((time.perf_counter(), 0, APP))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"ok"]

    with tempfile.TemporaryDirectory() as folder:
        word = "memory:" if store == "memory" else f"sqlite:///{folder}/pulse.db"
        task = pulse.Task(action="/tick", interval=INTERVAL_S)
        # Kept alive: the scheduler of a middleware that was dropped asks the server more questions.
        served = pulse.PulseMiddleware(
            app, mode="threading", store=word, start="eager", tasks={"tick": task}
        )
        time.sleep(SETTLE_S)
        calls.clear()
        time.sleep(INTERVAL_S * ticks)
        found = most_frequent(calls.copy())
        del served
        return found


def most_frequent(calls: list[tuple[float, int, str]]) -> dict[str, int]:
    found = Counter(
        figures
        for burst in list(bursts(calls))[1:-1]  # the first and the last may be cut
        if (figures := figures_of(burst)) is not None
    )
    ((number, files, moves), alike) = found.most_common(1)[0]
    return {
        "calls": number,
        "files": len(files),
        "of the store": sum(f"{os.sep}pulse{os.sep}store{os.sep}" in file for file in files),
        "moves": moves,
        "alike": alike,
        "ticks": found.total(),
    }


def bursts(calls: list[tuple[float, int, str]]) -> Iterator[list[tuple[float, int, str]]]:
    begin = 0
    for index in range(1, len(calls)):
        if calls[index][0] - calls[index - 1][0] > GAP_S:
            yield calls[begin:index]
            begin = index
    yield calls[begin:]


def figures_of(burst: list[tuple[float, int, str]]) -> tuple[int, frozenset[str], int] | None:
    """Return the number of calls, the files and the moves of a burst with exactly one run."""
    if sum(file == APP for _, _, file in burst) != 1:
        return None
    files, moves = [], 0
    last: dict[int, str] = {}
    for _, thread, file in burst:
        if file != APP:
            files.append(file)
            moves += last.get(thread) != file
            last[thread] = file
    return len(files), frozenset(files), moves


# The modules -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Import:
    """One module imports another, *at_load* or only within a function or for types."""

    importer: str
    imported: str
    at_load: bool


def modules_of(package: Path) -> dict[str, Path]:
    """Return the files of a package by the names of their modules."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(modules: Mapping[str, Path]) -> list[Import]:
    found = []
    for name, path in modules.items():
        for imported, at_load in statements(ast.parse(path.read_text()), at_load=True):
            target = imported if imported in modules else imported.rpartition(".")[0]
            if target in modules and target != name:
                found.append(Import(name, target, at_load))
    return found


def statements(node: ast.AST, *, at_load: bool) -> Iterator[tuple[str, bool]]:
    """Yield each name that is imported below *node*, and whether that happens at load."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, at_load) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from ((f"{child.module}.{alias.name}", at_load) for alias in child.names)
        else:
            later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or for_types(child)
            yield from statements(child, at_load=at_load and not later)


def for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def circles(imports: Iterable[Import]) -> list[list[str]]:
    """Return the groups of modules each of which leads to each other one."""
    leads_to: dict[str, set[str]] = {}
    for one in imports:
        leads_to.setdefault(one.importer, set()).add(one.imported)
    reached = {name: reach(leads_to, name) for name in leads_to}
    groups = {
        tuple(sorted(other for other in there if name in reached.get(other, ())))
        for name, there in reached.items()
        if name in there
    }
    return sorted(map(list, groups))


def reach(leads_to: Mapping[str, set[str]], name: str) -> set[str]:
    found, waiting = set(), [name]
    while waiting:
        fresh = leads_to.get(waiting.pop(), set()) - found
        found |= fresh
        waiting += fresh
    return found


def room_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def layout(package: Path) -> dict[str, object]:
    modules = modules_of(package)
    imports = imports_of(modules)
    pairs = {(room_of(one.importer), room_of(one.imported)) for one in imports}
    return {
        "modules": len(modules),
        "files at the root": len(list(package.glob("*.py"))),
        "rooms": len({room_of(name) for name in modules}),
        "imports between rooms": sum(one != other for one, other in pairs),
        "import circles": circles(one for one in imports if one.at_load),
        "import circles, with functions and types": circles(imports),
    }


# What is shown ---------------------------------------------------------------------------


def traced(python: str, ticks: int) -> dict[str, dict[str, int]]:
    """Return the figures of each store; the processes, which mostly sleep, run side by side."""
    words = ["--ticks", str(ticks), "--trace"]
    running = {
        store: subprocess.Popen([python, __file__, *words, store], stdout=subprocess.PIPE)
        for store in STORES
    }
    said = {store: process.communicate()[0] for store, process in running.items()}
    if any(process.returncode for process in running.values()):
        raise SystemExit("a process that was to be traced has failed")
    return {store: json.loads(text) for store, text in said.items()}


def package_of(python: str) -> Path:
    command = [python, "-c", "import pulse; print(pulse.__file__)"]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd="/")
    return Path(found.stdout.strip()).parent


def show(found: dict) -> None:
    names = ("calls", "files", "of the store", "moves")
    print(f"{'one steady tick':42}", *(f"{name:>12}" for name in (*names, "alike")))
    for store, tick in found["ticks"].items():
        alike = f"{tick['alike']} of {tick['ticks']}"
        print(f"{store:42}", *(f"{tick[name]:>12}" for name in names), f"{alike:>12}")
    print(f"\n{'modules of ' + found['package']}")
    for name, figure in found["modules"].items():
        groups = figure if isinstance(figure, list) else []
        print(f"{name:42}{len(groups) if isinstance(figure, list) else figure:>8}")
        for group in groups:
            print(f"    {', '.join(group)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkout", type=Path, help="measure this one, by its .venv/bin/python")
    parser.add_argument("--ticks", type=int, default=24, help="how many ticks are traced")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--trace", choices=STORES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.trace:
        print(json.dumps(trace(asked.trace, asked.ticks)), flush=True)
        os._exit(0)  # nothing is shut down: the folder of the store is gone
    checkout = asked.checkout
    python = str(checkout.absolute() / ".venv/bin/python") if checkout else sys.executable
    package = package_of(python)
    found = {
        "package": str(package),
        "ticks": traced(python, asked.ticks),
        "modules": layout(package),
    }
    if asked.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
