"""What the guard adds to a request with 31 keys in its environ, and what a decision costs.

    python bench/guard_request.py

Variants take turns and the least of many repeats counts. Each request has strings of its own, as
a server makes them: one whose hash is known already would look 30 ns cheaper than it is.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pulse.guard.guard import Guard, forbid

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    App = Callable[[dict[str, str], object], object]

REQUESTS = 2_000
REPEATS = 60
PATHS = {
    "plain": b"/articles/42/comments",
    "non-ASCII": "/artikel/größe/日本".encode(),
    "encoded twice": b"/articles/%2542%252Fx",
    "dots": b"/articles/x/../42",
    "8 KiB of segments": b"/a" * 4_096,
    "8 KiB, the worst known": b"/" + b"%" * 4_000 + b"3" * 4_000 + b"5",
}


def bare(_environ: dict[str, str], _start_response: object) -> object:
    return ()


def wrapped(environ: dict[str, str], start_response: object) -> object:
    return bare(environ, start_response)


def guarded(guard: Guard) -> App:
    def inline(environ: dict[str, str], start_response: object) -> object:
        key = environ.get("SCRIPT_NAME"), environ.get("PATH_INFO")
        if key not in guard.allowed and guard.refuses(environ):
            return forbid(environ, start_response)
        return bare(environ, start_response)

    return inline


def called(guard: Guard) -> App:
    def outline(environ: dict[str, str], start_response: object) -> object:
        if guard.refuses(environ):
            return forbid(environ, start_response)
        return bare(environ, start_response)

    return outline


def requests(path: bytes) -> list[dict[str, str]]:
    common = {f"HTTP_X_HEADER_{number}": str(number) for number in range(29)}
    return [
        common | {"SCRIPT_NAME": "", "PATH_INFO": path.decode("latin-1")} for _ in range(REQUESTS)
    ]


def nanoseconds(app: App, environs: list[dict[str, str]]) -> float:
    start = time.perf_counter_ns()
    for environ in environs:
        app(environ, None)
    return (time.perf_counter_ns() - start) / len(environs)


def best_of(variants: Mapping[str, App], path: bytes) -> dict[str, float]:
    best = dict.fromkeys(variants, float("inf"))
    for _ in range(REPEATS):
        for name, app in variants.items():
            best[name] = min(best[name], nanoseconds(app, requests(path)))
    return best


def decision(guard: Guard, path: bytes) -> float:
    """Return the nanoseconds of one decision that is not in the memo."""
    environ = {"PATH_INFO": path.decode("latin-1")}
    rounds = max(1, 2_000 // len(path))
    best = float("inf")
    for _ in range(REPEATS):
        total = 0
        for _ in range(rounds):
            guard.allowed.clear()
            start = time.perf_counter_ns()
            guard.refuses(environ)
            total += time.perf_counter_ns() - start
        best = min(best, total / rounds)
    return best


def building(count: int) -> tuple[Guard, float]:
    paths = [(f"task-{number}", f"/sessions/task-{number:06d}") for number in range(count)]
    start = time.perf_counter()
    guard = Guard(paths)
    return guard, time.perf_counter() - start


def main() -> None:
    few, _ = building(10)
    many, seconds = building(100_000)
    print(f"a guard of 100,000 tasks is built in {seconds:.2f} s\n")
    best = best_of(
        {
            "bare app": bare,
            "a wrapper that does nothing": wrapped,
            "the memo asked inline, 10 tasks": guarded(few),
            "the memo asked inline, 100,000 tasks": guarded(many),
            "Guard.refuses called, 10 tasks": called(few),
        },
        PATHS["plain"],
    )
    for name, cost in best.items():
        print(f"{name:38} {cost:8.0f} ns   + {cost - best['bare app']:4.0f}")
    print("\na path that is not in the memo" + " " * 13 + "10 tasks   100,000 tasks")
    for name, path in PATHS.items():
        costs = [decision(guard, path) / 1_000 for guard in (few, many)]
        print(f"{name:38} {costs[0]:10.1f} us {costs[1]:10.1f} us")


if __name__ == "__main__":
    main()
