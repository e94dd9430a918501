"""Instructions a tick, a run and a claim, beside an older checkout: exact where clocks are noisy.

    python bench/instructions.py OLD_CHECKOUT [--new CHECKOUT] [--rounds 3]

Each program runs under `valgrind --tool=callgrind` at two sizes; the difference of the instructions
by that of the work is the cost of one unit, without start and end. The counts of one round differ
by about one percent where threads take turns, and not at all elsewhere. The median of the rounds is
printed. What a processor makes of the instructions, and what the kernel does, is not counted.
Each checkout has an environment of its own in `.venv`. Needs valgrind.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
COUNTED = str(HERE / "parts" / "counted.py")
MEMORY = Path("/dev/shm")
_COLLECTED = re.compile(r"Collected : (\d+)")


def count(command: list[str]) -> tuple[int, str]:
    """Return the instructions of a program, and what it printed."""
    valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    # The hashes of texts decide how sets and dicts are laid out.
    environ = os.environ | {"PYTHONHASHSEED": "0"}
    if os.access(MEMORY, os.W_OK):
        environ["TMPDIR"] = str(MEMORY)
    done = subprocess.run(
        [*valgrind, *command], capture_output=True, text=True, check=False, env=environ
    )
    found = _COLLECTED.search(done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return int(found[1]), done.stdout


def programs(checkout: Path) -> dict[str, tuple[list[str], list[str]]]:
    """Return the commands of two sizes, by the name of the work."""
    python, bench = str(checkout / ".venv" / "bin" / "python"), checkout / "bench"
    handoff = str(bench / "engine_handoff.py")
    names_kind = "--kind" in Path(handoff).read_text()
    found = {}
    for mode in ("gevent", "threading"):
        command = [python, COUNTED, "ticks", mode]
        found[f"tick, {mode}"] = [*command, "5000"], [*command, "25000"]
    for kind in ("threads", "threads, patched", "greenlets"):
        words = ["--kind", kind] if names_kind else [kind]
        found[f"engine_handoff, {kind}"] = tuple(
            [python, handoff, runs, *words] for runs in ("2000", "6000")
        )
    for store in ("memory", "sqlite"):
        for batch in ("1", "10", "100"):
            command = [python, COUNTED, "claims", store, batch, str(bench)]
            found[f"claim, {store}, batches of {batch}"] = [*command, "4"], [*command, "12"]
    return found


def cost(name: str, small: list[str], large: list[str]) -> float:
    """Return the instructions of one unit of work."""
    (few, little), (many, much) = count(small), count(large)
    units = 5 * 4_000 if name.startswith("engine_handoff") else int(much) - int(little)
    return (many - few) / units


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout with an environment in .venv")
    parser.add_argument("--new", type=Path, default=HERE.parent, help="this checkout, if not given")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    old, new = programs(asked.old.resolve()), programs(asked.new.resolve())
    print(f"{'':36}{'old':>12}{'new':>12}{'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, sizes in new.items():
            pairs = [(cost(name, *old[name]), cost(name, *sizes)) for _ in range(asked.rounds)]
            was, now = (statistics.median(column) for column in zip(*pairs, strict=True))
            print(f"{name:36}{was:>12,.0f}{now:>12,.0f}{now / was:>8.3f}", flush=True)


if __name__ == "__main__":
    main()
