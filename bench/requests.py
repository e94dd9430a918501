"""Nanoseconds that the middleware adds to an ordinary request with 31 keys in its environ.

    python bench/requests.py

The variants take turns, and the least of many repeats counts: what is left is the cost itself,
not the noise of the machine.
"""

from __future__ import annotations

import timeit

from pulse.core.task import Task
from pulse.middleware import PulseMiddleware

NUMBER = 1_000
REPEATS = 2_000


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


def built(*, guard: bool) -> PulseMiddleware:
    tasks = {f"task-{i}": Task(action=f"task-{i}", interval=3600) for i in range(10)}
    app = PulseMiddleware(
        bare_app, context="sessions", guard=guard, store="memory:", start="eager", tasks=tasks
    )
    app(ordinary_environ(), None)
    return app


def main() -> None:
    variants = {
        "bare app": bare_app,
        "pulse": built(guard=False),
        "pulse, guard": built(guard=True),
    }
    best = dict.fromkeys(variants, float("inf"))
    environ = ordinary_environ()
    for _ in range(REPEATS):
        for name, app in variants.items():
            timer = timeit.Timer("app(environ, None)", globals={"app": app, "environ": environ})
            best[name] = min(best[name], timer.timeit(NUMBER) / NUMBER * 1e9)
    print(f"{'variant':16}{'ns a request':>14}{'added ns':>10}")
    for name, cost in best.items():
        print(f"{name:16}{cost:>14.0f}{cost - best['bare app']:>10.0f}")


if __name__ == "__main__":
    main()
