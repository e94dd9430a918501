"""This checkout's speed beside that of an older checkout, in rounds that take turns.

    python bench/compare.py OLD_CHECKOUT [--rounds 6] [--budget 2] [--parts ticks requests ...]

Each checkout has an environment of its own in `.venv`, and its benchmarks run by that interpreter.
What is measured runs in the order old, new, new, old, old, new ..., so that a machine that becomes
slower does so for both. Every figure has a value from each checkout in each round:

ticks: one tick of the middleware on `memory:`. requests: what it adds to a request. Both scripts
use public names alone: the ones of this checkout measure both.
engine_handoff and fleet: each checkout's own scripts. They print JSON, or the tables of the first
release.
store_claims: each checkout's own `memory_ticks` and `sqlite_ticks`, called by
`parts/claims_process.py`, which measures their CPU.

Files and private servers are in `--folder`, by default a file system in memory: a disk that is
shared with others varies by far more than what is looked for. CPU varies less than rates.

The ratio is the median over the rounds of what the new checkout costs by what the old one costs:
above 1 the new one is slower, for rates too. Beside it stands the interval in which that median
lies with a confidence of 95 %, which needs 6 rounds or more; it needs no assumption about how the
figures are distributed. The best column is the ratio of the best rounds of both. The spread is
that of the rounds of each checkout, the largest less the smallest by the median.

A figure is *slower* when the whole interval is above the budget, and *unclear* when a part of it
is, or when there were fewer rounds: then more rounds are needed. The exit status is 1 when one is
slower.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Figures = dict[str, tuple[str, float]]
    """Unit and value of each figure, by name."""

HERE = Path(__file__).resolve().parent
PUBLIC = ("ticks.py", "requests.py")
RATE = "ticks/s"
TICKS = (("gevent", 10_000), ("gevent", 100_000), ("threading", 1_000), ("threading", 100_000))
SATURATION = 100_000
UNSURE = 0.05
MEMORY = Path("/dev/shm")
WIDTH = 56
VERSIONS = (
    "import importlib.metadata as m, json, platform;"
    "print(json.dumps({d.name: d.version for d in m.distributions()}"
    " | {'Python': platform.python_version()}))"
)


@dataclass(frozen=True)
class Checkout:
    """A folder with the sources, the benchmarks and an environment."""

    folder: Path
    environ: dict[str, str]

    @property
    def python(self) -> str:
        return str(self.folder / ".venv" / "bin" / "python")

    @property
    def bench(self) -> Path:
        return self.folder / "bench"

    def run(self, *words: object) -> str:
        done = subprocess.run(
            [self.python, *map(str, words)],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.environ["TMPDIR"],
            env=self.environ,
        )
        if done.returncode:
            raise SystemExit(f"{self.folder}: {' '.join(map(str, words))}\n{done.stderr}")
        return done.stdout

    def refuse_unless_ready(self) -> None:
        """Leave unless the interpreter is there and imports the package of this folder."""
        if not Path(self.python).exists():
            raise SystemExit(f"{self.folder}: expected an environment with pulse in .venv")
        found = self.run("-c", "import pulse; print(pulse.__file__)").strip()
        if Path(found) != self.folder / "pulse" / "__init__.py":
            raise SystemExit(f"{self.folder}: expected its own package in .venv, got {found}")


@dataclass(frozen=True)
class Measurement:
    """One program that is run once a round for each checkout."""

    name: str
    measure: Callable[[Checkout], Figures]


@dataclass
class Series:
    """The values of one figure, a pair a round."""

    unit: str
    old: list[float] = field(default_factory=list)
    new: list[float] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """Return what the new checkout costs by what the old one costs, of each round."""
        pairs = zip(self.old, self.new, strict=True)
        if self.unit == RATE:
            return [old / new for old, new in pairs]
        return [new / old for old, new in pairs]

    def best(self) -> float:
        """Return that ratio of the best rounds of both."""
        if self.unit == RATE:
            return max(self.old) / max(self.new)
        return min(self.new) / min(self.old)


# What is measured ------------------------------------------------------------------------


def measurements(asked: argparse.Namespace, public: Path) -> Iterator[Measurement]:
    if "ticks" in asked.parts:
        yield from (ticks_at(public, flavour, rate) for flavour, rate in TICKS)
    if "requests" in asked.parts:
        yield Measurement(
            "requests", lambda one: figures_of(one.run(public / "requests.py", "--json"))
        )
    if "engine_handoff" in asked.parts:
        yield Measurement("engine_handoff", handoff)
    if "store_claims" in asked.parts:
        script = HERE / "parts" / "claims_process.py"
        yield Measurement(
            "store_claims", lambda one: figures_of(one.run(script, one.bench, asked.seconds))
        )
    if "fleet" in asked.parts:
        yield from (fleet_on(store, asked) for store in asked.stores)


def ticks_at(public: Path, flavour: str, rate: int) -> Measurement:
    def measure(checkout: Checkout) -> Figures:
        found = json.loads(checkout.run(public / "ticks.py", flavour, "pulse", rate))
        figures = {"CPU a tick": ("us", found["cpu_us"])}
        if rate == SATURATION:
            figures["rate"] = (RATE, found["ticks_s"])
        return figures

    asked = "saturation" if rate == SATURATION else f"{rate:,}/s"
    return Measurement(f"ticks, {flavour}, {asked}", measure)


def handoff(checkout: Checkout) -> Figures:
    script = checkout.bench / "engine_handoff.py"
    if prints_json(script):
        return figures_of(checkout.run(script, "--json"))
    return handoff_table(checkout.run(script))


def handoff_table(text: str) -> Figures:
    found: Figures = {}
    for line in text.splitlines()[2:]:
        cpu, wall = line[18:].split()
        name = line[:18].strip()
        found |= {f"{name}, CPU": ("us", float(cpu)), f"{name}, wall": ("us", float(wall))}
    return found


def fleet_on(store: str, asked: argparse.Namespace) -> Measurement:
    words = [store, "--part", "totals", "--apscheduler", "none", "--seconds", asked.seconds]
    words += ["--processes", *asked.processes]

    def measure(checkout: Checkout) -> Figures:
        script = checkout.bench / "fleet.py"
        if prints_json(script):
            return figures_of(checkout.run(script, *words, "--json"))
        return fleet_table(checkout.run(script, *words))

    return Measurement("fleet", measure)


def fleet_table(text: str) -> Figures:
    found: Figures = {}
    for line in text.splitlines()[1:]:
        processes, rate, cpu, server, *_ = line[24:].replace(",", "").split()
        counted = "1 process" if processes == "1" else f"{processes} processes"
        row = f"{line[:24].strip()}, {counted}"
        found[f"{row}, rate"] = (RATE, float(rate))
        found[f"{row}, CPU a tick"] = ("us", float(cpu))
        found[f"{row}, CPU of the server a tick"] = ("us", float(server))
    return found


def prints_json(script: Path) -> bool:
    return '"--json"' in script.read_text()


def figures_of(text: str) -> Figures:
    return {one["name"]: (one["unit"], one["value"]) for one in json.loads(text)}


# Rounds ----------------------------------------------------------------------------------


def compare(one: Measurement, old: Checkout, new: Checkout, rounds: int) -> dict[str, Series]:
    """Return the figures that both checkouts have, measured in turns."""
    series: dict[str, Series] = {}
    for number in range(rounds):
        print(f"{one.name}: round {number + 1} of {rounds}", file=sys.stderr, flush=True)
        order = (old, new) if number % 2 == 0 else (new, old)
        found = {checkout.folder: one.measure(checkout) for checkout in order}
        before, after = found[old.folder], found[new.folder]
        for name in before.keys() & after.keys():
            (unit, was), (_, now) = before[name], after[name]
            if "bare" not in name and was > 0 and now > 0:
                pair = series.setdefault(name, Series(unit))
                pair.old.append(was)
                pair.new.append(now)
    return {f"{one.name}: {name}": series[name] for name in sorted(series)}


def interval(ratios: list[float]) -> tuple[float, float]:
    """Return where the median lies, by the binomial distribution of how many are below it."""
    ordered = sorted(ratios)
    count = len(ratios)
    rank = max((rank for rank in range(count) if outside(rank, count) <= UNSURE), default=0)
    return ordered[rank], ordered[-1 - rank]


def outside(rank: int, count: int) -> float:
    """Return how probable it is that the median is beyond the values of a rank, 0 the first."""
    return 2 * sum(math.comb(count, below) for below in range(rank + 1)) / 2**count


def spread(values: list[float]) -> float:
    return (max(values) - min(values)) / statistics.median(values) * 100


def verdict(ratios: list[float], budget: float) -> str:
    low, high = interval(ratios)
    most = 1 + budget / 100
    if low > most and outside(0, len(ratios)) <= UNSURE:
        return "slower"
    return "unclear" if high > most else ""


def show_head() -> None:
    print(
        f"{'':{WIDTH}}{'unit':>8}{'old':>11}{'new':>11}{'ratio':>8}{'from':>8}{'to':>7}"
        f"{'best':>8}{'spread old':>12}{'new':>9}",
        flush=True,
    )


def show(name: str, one: Series, budget: float) -> str:
    """Print the row of a figure; return the verdict."""
    ratios = one.ratios()
    low, high = interval(ratios)
    said = verdict(ratios, budget)
    row = (
        f"{name:{WIDTH}}{one.unit:>8}{statistics.median(one.old):>11,.2f}"
        f"{statistics.median(one.new):>11,.2f}{statistics.median(ratios):>8.3f}{low:>8.3f}"
        f"{high:>7.3f}{one.best():>8.3f}{spread(one.old):>10.1f} %{spread(one.new):>7.1f} %"
    )
    print(f"{row}  {said}".rstrip(), flush=True)
    return said


def show_versions(old: Checkout, new: Checkout) -> None:
    """Print what else differs between the environments."""
    was, now = (json.loads(one.run("-c", VERSIONS)) for one in (old, new))
    differing = sorted(name for name in was.keys() | now.keys() if was.get(name) != now.get(name))
    for name in differing:
        print(f"{name}: old {was.get(name, 'none')}, new {now.get(name, 'none')}")


# The command line ------------------------------------------------------------------------


def read_arguments() -> argparse.Namespace:
    parts = ["ticks", "requests", "engine_handoff", "store_claims", "fleet"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="a checkout with an environment in .venv")
    parser.add_argument("--new", type=Path, default=HERE.parent, help="this checkout, if not given")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--budget", type=float, default=2.0, help="percent that may be lost")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a fleet or of claims")
    stores = ["memory", "sqlite", "postgres", "redis"]
    parser.add_argument("--stores", nargs="+", choices=stores, default=stores, help="of fleets")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4], help="of fleets")
    folder = MEMORY if os.access(MEMORY, os.W_OK) else Path(tempfile.gettempdir())
    parser.add_argument("--folder", type=Path, default=folder, help="where files are made")
    parser.add_argument("--json", type=Path, help="a file for the values of all rounds")
    return parser.parse_args()


def main() -> int:
    asked = read_arguments()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        Path(folder).chmod(0o755)  # a PostgreSQL server runs as another user
        environ = {name: word for name, word in os.environ.items() if name != "PYTHONPATH"}
        environ["TMPDIR"] = folder
        old, new = (Checkout(one.resolve(), environ) for one in (asked.old, asked.new))
        for one in (old, new):
            one.refuse_unless_ready()
        public = Path(folder) / "public"
        public.mkdir()
        for name in PUBLIC:
            shutil.copy(HERE / name, public)
        show_versions(old, new)
        show_head()
        found: dict[str, Series] = {}
        said = set()
        for one in measurements(asked, public):
            series = compare(one, old, new, asked.rounds)
            said |= {show(name, values, asked.budget) for name, values in series.items()}
            found |= series
    if asked.json:
        asked.json.write_text(json.dumps({name: vars(one) for name, one in found.items()}))
    return int("slower" in said)


if __name__ == "__main__":
    sys.exit(main())
