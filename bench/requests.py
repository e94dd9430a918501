"""Nanoseconds that the middleware adds to an ordinary request with 31 keys in its environ.

    python bench/requests.py [--json]

Each request has an environ of its own, as a server makes it: to insert `pulse.scheduler` into a
dict that has the key already would look cheaper than it is. What making the environ costs is
measured with the bare app in the same rounds, and taken off. The variants take turns, and the
least of many short repeats counts: what is left is the cost itself, not the noise of the machine.

The bars are what the middleware may add where the text of the path is known from a request before,
and what an API and probes may add to that (`MOUNTED_NS`). Where it adds more, the exit status is 1.
The last rows give each request a new text, whose hash the guard has to compute;
`guard_request.py` measures the parts of that.
"""

from __future__ import annotations

import json
import os
import sys
import timeit

from pulse import PulseMiddleware, Task

NUMBER = 500
REPEATS = 5_000
BARS_NS = {"pulse": 200, "pulse, guard": 300}
MOUNTED_NS = 80
REQUEST = "app(make_environ(), None)"
NEW_PATH = """
environ = make_environ()
environ["PATH_INFO"] = path.decode("latin-1")
app(environ, None)
"""


def bare_app(environ, start_response):
    return ()


def ordinary_environ() -> dict[str, object]:
    environ: dict[str, object] = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/articles/42",
        "QUERY_STRING": "page=2",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
    }
    environ |= {f"HTTP_X_HEADER_{i}": str(i) for i in range(31 - len(environ))}
    assert len(environ) == 31
    return environ


def built(*, guard: bool = False, **mounted: str) -> PulseMiddleware:
    tasks = {f"task-{i}": Task(action=f"task-{i}", interval=3600) for i in range(10)}
    app = PulseMiddleware(
        bare_app,
        context="sessions",
        guard=guard,
        store="memory:",
        start="eager",
        tasks=tasks,
        **mounted,
    )
    app(ordinary_environ(), None)
    return app


def timer_of(app: object, statement: str = REQUEST) -> timeit.Timer:
    environ = ordinary_environ()
    names = {"app": app, "make_environ": environ.copy, "path": environ["PATH_INFO"].encode()}
    return timeit.Timer(statement, globals=names)


def measure(timers: dict[str, timeit.Timer]) -> dict[str, float]:
    """Return the nanoseconds of a request, its environ included, by variant."""
    best = dict.fromkeys(timers, float("inf"))
    for _ in range(REPEATS):
        for name, timer in timers.items():
            best[name] = min(best[name], timer.timeit(NUMBER))
    return {name: seconds / NUMBER * 1e9 for name, seconds in best.items()}


def main(arguments: list[str]) -> int:
    os.environ["PULSE_BENCH_TOKEN"] = "t" * 20
    guarded = built(guard=True)
    mounted = built(
        api="/_pulse/api", health="/_pulse", access="token:${PULSE_BENCH_TOKEN}", name="mounted"
    )
    costs = measure(
        {
            "bare app": timer_of(bare_app),
            "pulse": timer_of(built()),
            "pulse, mounted": timer_of(mounted),
            "pulse, guard": timer_of(guarded),
            "bare app, new path": timer_of(bare_app, NEW_PATH),
            "pulse, guard, new path": timer_of(guarded, NEW_PATH),
        }
    )
    bare = {"pulse, guard, new path": costs["bare app, new path"]}
    added = {
        name: cost - bare.get(name, costs["bare app"])
        for name, cost in costs.items()
        if name.startswith("pulse")
    }
    if "--json" in arguments:
        figures = [{"name": name, "unit": "ns", "value": ns} for name, ns in added.items()]
        print(json.dumps(figures))
        return 0
    print(f"{'variant':24}{'ns a request':>14}{'added ns':>10}{'bar':>6}")
    for name, cost in costs.items():
        more = f"{added[name]:.0f}" if name in added else ""
        print(f"{name:24}{cost:>14.0f}{more:>10}{BARS_NS.get(name, ''):>6}")
    more = added["pulse, mounted"] - added["pulse"]
    print(f"{'an API and probes':24}{'':>14}{more:>10.0f}{MOUNTED_NS:>6}")
    return int(more > MOUNTED_NS or any(added[name] > bar for name, bar in BARS_NS.items()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
