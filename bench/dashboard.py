"""How long the pages of the dashboard take with a long history, beside a bare page.

    python bench/dashboard.py [store ...] [--runs 1000000] [--tasks 1000]

Stores are sqlite and postgres, a private server, filled as by `history.py`. A page is asked for
without a server, and the memory of the process is emptied before each time, as if nobody had looked
within a second; `again` is the same page within the second, `304` the answer to a poll. The bare
page is a template with one name, rendered by the same environment and answered with the same
headers: what nothing of this kind can go below. Medians in milliseconds; the bar is 100 ms.

The second table polls each page as 50 browsers would, for a number of seconds, beside ordinary
requests of one more thread. It shows how long those take without and with the polls, and how often
each question was asked of the store: at most once a second.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from contextlib import closing

from history import fill, name_of
from parts.grounds import GROUNDS

from pulse import PulseMiddleware
from pulse.clock import SECOND, SystemClock
from pulse.handle.handle import SchedulerHandle
from pulse.store.base import StoreOptions
from pulse.store.factory import choose_store
from pulse.store.process_identity import this_member
from pulse.store.shared.backend import Transaction
from pulse.web.dashboard.application import PulseDashboard
from pulse.web.dashboard.rendering import _environment
from pulse.web.responses import HttpAnswer

BAR_MS = 100
TIMES = 9
TABS, POLL_EVERY_S, FOR_S = 50, 3.0, 12.0


class StoreAccess:
    """What a handle works on: a store, and nothing that is emitted or woken."""

    def __init__(self, store) -> None:
        self.store = store
        self.clock = SystemClock()

    def emit(self, *_: object) -> None:
        pass

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass


def asked(app, path: str, etag: str = "") -> tuple[str, dict[str, str], int]:
    found = []
    path, _, query = path.partition("?")
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "/_pulse",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "HTTP_IF_NONE_MATCH": etag,
    }
    body = b"".join(app(environ, lambda *words: found.append(words)))
    ((status, headers),) = found
    return status[:3], dict(headers), len(body)


def median_ms(call, before=lambda: None) -> float:
    took = []
    for _ in range(TIMES):
        before()
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1_000)
    return statistics.median(took)


def bare_page():
    template = _environment().from_string("<!doctype html><title>{{ name }}</title>")

    def app(environ, start_response):
        body = template.render(name="bare").encode()
        return HttpAnswer(200, body, "text/html; charset=utf-8").send(environ, start_response)

    return app


def paths(store) -> dict[str, str]:
    from pulse.core.run_query import RunQuery

    last = store.history(RunQuery(limit=1))[0]
    failed = store.history(RunQuery(states=frozenset({"failed"}), limit=1))[0]
    return {
        "tasks": "/",
        "tasks, the last page": "/?page=20&sort=name",
        "task": f"/task?name={last.task}",
        "task, its failures": f"/task?name={failed.task}&outcome=failed",
        "run": f"/run?id={failed.id}",
        "runs": "/runs",
        "runs that failed": "/runs?outcome=failed",
        "timeline of 24 hours": "/timeline",
        "fleet": "/fleet",
        "audit": "/audit",
        "why": f"/why?name={last.task}&at=2026-01-06T03:00",
        "ledger of a week": f"/ledger?name={last.task}&span=7d",
        "confirm": f"/confirm?verb=pause&name={last.task}",
    }


def measure(name: str, store, handle: SchedulerHandle) -> None:
    app = PulseDashboard(access=True, handle=handle)
    bare = bare_page()
    asked(bare, "/")
    print(f"{name:10} {'':24} {'ms':>9} {'again':>8} {'304':>8} {'bytes':>9}")
    print(f"{name:10} {'a bare page':24} {median_ms(lambda: asked(bare, '/')):9.2f}")
    for what, path in paths(store).items():
        app._reports._burst = app._reports._left = 10**6  # noqa: SLF001 - else the 11th report waits
        status, headers, size = asked(app, path)
        assert status == "200", (path, status)
        took = median_ms(lambda path=path: asked(app, path), app._readers.clear)  # noqa: SLF001 - as if anew
        again = median_ms(lambda path=path: asked(app, path))
        etag = headers["ETag"]
        same = median_ms(lambda path=path, etag=etag: asked(app, path, etag))
        late = "  above the bar" if took > BAR_MS else ""
        print(
            f"{name:10} {what:24} {took:9.2f} {again:8.2f} {same:8.2f} {size:9,}{late}", flush=True
        )


def poll(app, path: str, until: float, offset: float) -> None:
    etag, due = "", time.monotonic() + offset
    while due < until:
        time.sleep(max(due - time.monotonic(), 0))
        status, headers, _ = asked(app, path, etag)
        assert status in {"200", "304"}
        etag = headers["ETag"]
        due += POLL_EVERY_S


def p99_of_ordinary(seconds: float) -> tuple[float, int]:
    """Ask for an ordinary page each 5 ms, as one more client."""

    def site(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x" * 1_000]

    app = PulseMiddleware(site, start="off", store="memory:", tasks={})
    took, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        asked(app, "/articles/42")
        took.append((time.perf_counter() - began) * 1_000)
        time.sleep(0.005)
    return statistics.quantiles(took, n=100)[98], len(took)


def crowd(name: str, store, handle: SchedulerHandle) -> None:
    calls: dict[str, int] = {}
    original = handle.overview

    def counted():
        calls["overview"] = calls.get("overview", 0) + 1
        return original()

    class Counted:
        def __getattr__(self, attribute):
            return counted if attribute == "overview" else getattr(handle, attribute)

    app = PulseDashboard(access=True, handle=Counted())
    alone, _ = p99_of_ordinary(FOR_S / 2)
    until = time.monotonic() + FOR_S
    chosen = [path for what, path in paths(store).items() if what in {"tasks", "runs", "fleet"}]
    threads = [
        threading.Thread(
            target=poll, args=(app, chosen[tab % 3], until, tab * POLL_EVERY_S / TABS), daemon=True
        )
        for tab in range(TABS)
    ]
    for thread in threads:
        thread.start()
    beside, _ = p99_of_ordinary(FOR_S)
    for thread in threads:
        thread.join()
    again, _ = p99_of_ordinary(FOR_S / 2)
    print(
        f"{name:10} {TABS} tabs: p99 of ordinary requests {alone:.2f} ms before, {beside:.2f} with,"
        f" {again:.2f} after; the state of the fleet was read {calls['overview']} times in"
        f" {FOR_S:.0f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stores", metavar="store", nargs="*", default=["sqlite", "postgres"])
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--tasks", type=int, default=1_000)
    words = parser.parse_args()
    options = StoreOptions(keep_runs=words.runs)
    for name in words.stores:
        with closing(GROUNDS[name]()) as ground:
            store = choose_store(ground.fresh(), options, clock=SystemClock(), origin="").store
            store.open(this_member("bench", "digest", 30 * SECOND))
            fill(store, runs=words.runs, tasks=words.tasks)
            assert store.tasks(name_of(0))
            if name == "postgres":
                store._backend.database.run(  # noqa: SLF001 - see `history.fill`
                    Transaction.WRITE,
                    lambda session: [
                        session.execute(f"ANALYZE @{one}") for one in ("runs", "tasks")
                    ],
                )
            handle = SchedulerHandle()
            handle.attach(StoreAccess(store))
            measure(name, store, handle)
            crowd(name, store, handle)
            store.close()


if __name__ == "__main__":
    main()
