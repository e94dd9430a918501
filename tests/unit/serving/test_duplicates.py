"""Several middlewares of one identity in a process: only the served one runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from pulse.core.policies import Start
from pulse.errors import EngineError
from pulse.serving import install, installation, lifecycle
from pulse.serving.base import Identity
from pulse.serving.duplicates import MAX_CHECKS, UNDECIDED
from pulse.serving.process_registry import ProcessRegistry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.serving import ServiceLifecycle

ALONE = Identity(("store", "shop"), "two of them are served")
BESIDE = Identity(("memory:", ""), "")


class RecordingService:
    """Writes down what it is calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.accepts_work: Callable[[], bool] = lambda: False

    def set_accepting(self, accepts_work: Callable[[], bool]) -> None:
        """Keep the function."""
        self.accepts_work = accepts_work

    def start(self) -> RecordingService:
        """Record it."""
        self.calls.append("start")
        return self

    def stop_claiming(self) -> None:
        """Record it."""
        self.calls.append("stop_claiming")

    def shutdown(self, _limit_s: float | None) -> None:
        """Record it."""
        self.calls.append("shutdown")


class Server:
    """A server that loads an application, and then serves it."""

    def __init__(self) -> None:
        self.loaded = True
        self.waits = False
        self.calls: object = None

    def attach(self, lifecycle: ServiceLifecycle) -> None:
        """Start at once, as waitress does, unless the test makes it wait."""
        lifecycle.set_server(self)
        if not self.waits:
            lifecycle.start_automatically()

    def accepts_work(self) -> bool:
        """Return whether the application is loaded."""
        return self.loaded

    def time_left_s(self) -> None:
        """Return None."""

    def application(self) -> object:
        """Return what is served."""
        return self.calls if self.loaded else None


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Return the server around this process, which looks as if pytest did not run it."""
    monkeypatch.delitem(sys.modules, "pytest")
    found = Server()
    registry = ProcessRegistry()
    for module in (lifecycle, installation):
        monkeypatch.setattr(module, "REGISTRY", registry)
    monkeypatch.setattr(lifecycle, "spawn", lambda target, _name: target())
    monkeypatch.setattr(installation, "DETECTORS", (lambda: found,))
    return found


class Part:
    """The lifecycle and the service of one middleware."""

    def __init__(self, identity: Identity | None = ALONE, start: Start = Start.AUTO) -> None:
        self.service = RecordingService()
        self.notes: list[str] = []
        self.lifecycle: ServiceLifecycle = install(
            self.service, start=start, identity=identity, notice=self.notes.append
        )

    @property
    def claims(self) -> bool:
        """Return whether the service runs and may claim."""
        calls = self.service.calls
        running = bool(calls) and calls[-1] == "start"
        return running and self.service.accepts_work()


def late(server: Server, *identities: Identity | None, start: Start = Start.AUTO) -> list[Part]:
    """Return parts that a server such as gunicorn starts once all is loaded."""
    server.waits = True
    return [Part(identity, start) for identity in identities]


def start(*parts: Part) -> None:
    """Start them automatically, as the server does, one after the other."""
    for part in parts:
        part.lifecycle.start_automatically()


# Started when all is loaded, by a server that shows what it calls -------------------------


@pytest.mark.parametrize("served", [0, 1], ids=["the first", "the second"])
@pytest.mark.parametrize("identity", [ALONE, BESIDE], ids=["one store", "memory"])
def test_the_one_that_the_server_reaches_runs(
    server: Server, identity: Identity, served: int
) -> None:
    """The other one, which the test holds, waits for a request."""
    parts = late(server, identity, identity)
    server.calls = {"app": parts[served].lifecycle}

    start(*parts)

    assert [part.claims for part in parts] == [served == 0, served == 1]
    assert [part.lifecycle.pending for part in parts] == [served == 1, served == 0]
    assert [part.notes for part in parts] == [[], []]


def test_two_that_are_served_and_share_a_store_are_an_error(server: Server) -> None:
    """The server's start fails, and the error names the remedy."""
    parts = late(server, ALONE, ALONE)
    server.calls = [part.lifecycle for part in parts]
    parts[0].lifecycle.start_automatically()

    with pytest.raises(EngineError, match="two of them are served"):
        parts[1].lifecycle.start_automatically()


def test_two_that_are_served_and_share_nothing_both_run(server: Server) -> None:
    """Each has a memory store of its own."""
    parts = late(server, BESIDE, BESIDE)
    server.calls = [part.lifecycle for part in parts]

    start(*parts)

    assert [part.claims for part in parts] == [True, True]


@pytest.mark.parametrize("identity", [Identity(("other",), ""), None], ids=["other", "none"])
def test_middlewares_of_different_identities_are_no_duplicates(
    server: Server, identity: Identity | None
) -> None:
    """A middleware of another application runs, whatever the server reaches."""
    parts = late(server, ALONE, identity)
    server.calls = parts[0].lifecycle

    start(*parts)

    assert [part.claims for part in parts] == [True, True]


@pytest.mark.parametrize("calls", [None, "an app that shows nothing"], ids=["unknown", "opaque"])
def test_the_first_request_decides_if_the_server_shows_nothing(
    server: Server, calls: object
) -> None:
    """Both wait, a notice says why; the one that gets a request runs, the other does not."""
    parts = late(server, ALONE, ALONE)
    server.calls = calls
    start(*parts)
    before = [part.claims for part in parts]

    parts[1].lifecycle.first_request({})
    parts[0].lifecycle.first_request({})

    assert (before, [part.claims for part in parts]) == ([False, False], [False, True])
    assert parts[1].notes == [UNDECIDED]
    assert parts[0].notes == [
        UNDECIDED,
        "two of them are served",
    ]


def test_a_request_of_a_test_client_decides_nothing(server: Server) -> None:
    """Such a request does not come from a server."""
    parts = late(server, ALONE, ALONE)
    start(*parts)

    parts[0].lifecycle.first_request({"paste.testing": True})

    assert [part.claims for part in parts] == [False, False]


def test_a_dropped_middleware_is_no_duplicate(server: Server) -> None:
    """The other one starts at once, without a notice."""
    parts = late(server, ALONE, ALONE)
    del parts[0]

    start(*parts)

    assert (parts[0].claims, parts[0].notes) == (True, [])


def test_a_dropped_middleware_in_a_reference_cycle_is_no_duplicate(server: Server) -> None:
    """A Flask app refers to itself, so the garbage collector is called."""
    parts = late(server, ALONE, ALONE)
    parts[0].itself = parts[0]  # type: ignore[attr-defined]
    del parts[0]

    start(*parts)

    assert (parts[0].claims, parts[0].notes) == (True, [])


def test_a_middleware_with_start_off_is_no_duplicate(server: Server) -> None:
    """With `start = off` it does not start, so the other one need not wait."""
    part, off = late(server, ALONE)[0], Part(start=Start.OFF)

    start(part)

    assert (part.claims, off.claims) == (True, False)


def test_the_hooks_choose_among_middlewares_with_start_off(server: Server) -> None:
    """`pulse.gunicorn` starts all; the one that is not served waits for a request."""
    parts = late(server, ALONE, ALONE, start=Start.OFF)
    server.calls = parts[1].lifecycle

    for part in parts:
        part.lifecycle.start()

    assert [part.claims for part in parts] == [False, True]
    assert [part.lifecycle.pending for part in parts] == [True, False]


def test_after_a_fork_the_served_one_is_determined_again(server: Server) -> None:
    """The parent's result does not hold in the child."""
    parts = late(server, ALONE, ALONE)
    server.calls = parts[0].lifecycle
    start(*parts)
    for part in parts:
        part.lifecycle.forked()
        part.lifecycle.set_server(server)
    server.calls = parts[1].lifecycle

    start(*parts)

    assert parts[1].claims


# Started while the application is loaded --------------------------------------------------


@pytest.fixture
def loading(server: Server) -> Server:
    """Return a server that starts what is built while it loads."""
    server.loaded = False
    return server


def test_while_the_application_is_loaded_the_newest_is_a_standby(loading: Server) -> None:
    """It has the store but claims nothing; the older one has left the store."""
    first, second = Part(), Part()

    assert first.service.calls == ["start", "stop_claiming", "shutdown"]
    assert second.service.calls == ["start"]
    assert [first.claims, second.claims] == [False, False]
    assert loading.loaded is False


def test_the_newest_claims_if_it_is_served(loading: Server) -> None:
    """It claims as soon as the server shows what it calls, without a request."""
    first, second = Part(), Part()
    loading.loaded, loading.calls = True, [second.lifecycle]

    assert (first.claims, second.claims) == (False, True)
    assert (first.notes, second.notes, second.lifecycle.pending) == ([], [], False)


def test_the_newest_claims_if_the_older_one_is_dropped(loading: Server) -> None:
    """A factory was called twice, and its first result was replaced."""
    first, second = Part(), Part()
    del first
    loading.loaded = True

    assert (second.claims, second.notes) == (True, [])


def test_one_that_is_dropped_while_loading_is_shut_down_before_the_next_starts(
    loading: Server,
) -> None:
    """It leaves the store before the next one opens it."""
    first = Part()
    calls = first.service.calls
    del first

    second = Part()
    loading.loaded = True

    assert (calls, second.claims) == (["start", "stop_claiming", "shutdown"], True)


def test_the_older_one_starts_again_if_it_is_served(loading: Server) -> None:
    """The newest detects it before a claim, and leaves the store first."""
    first, second = Part(), Part()
    loading.loaded, loading.calls = True, first.lifecycle

    assert (second.claims, first.claims) == (False, True)
    assert second.service.calls == ["start", "stop_claiming", "shutdown"]
    assert (first.notes, second.notes) == ([], [])


def test_the_older_one_starts_again_with_a_request(loading: Server) -> None:
    """The server shows nothing, so the request decides."""
    first, second = Part(), Part()
    loading.loaded = True
    before = second.claims

    first.lifecycle.first_request({})

    assert (before, first.claims, second.claims) == (False, True, False)
    assert second.service.calls == ["start", "stop_claiming", "shutdown"]


def test_the_newest_claims_after_a_request(loading: Server) -> None:
    """The server shows nothing, so the request decides."""
    first, second = Part(), Part()
    loading.loaded = True
    before = [second.claims for _ in range(MAX_CHECKS + 1)]

    second.lifecycle.first_request({})

    assert (before, second.claims) == ([False] * (MAX_CHECKS + 1), True)
    assert (first.notes, second.notes) == ([], [UNDECIDED])


def test_both_start_if_they_share_nothing_and_are_served(loading: Server) -> None:
    """The newest detects it, and starts the older one again."""
    first, second = Part(BESIDE), Part(BESIDE)
    loading.loaded, loading.calls = True, [first.lifecycle, second.lifecycle]

    assert (second.claims, first.claims, second.claims) == (True, True, True)


def test_of_two_that_share_nothing_the_one_that_is_not_served_waits(loading: Server) -> None:
    """A request starts it after all."""
    first, second = Part(BESIDE), Part(BESIDE)
    loading.loaded, loading.calls = True, [second.lifecycle]
    before = (second.claims, first.claims)

    first.lifecycle.first_request({})

    assert (before, second.claims, first.claims) == ((True, False), True, True)


def test_a_failed_start_in_a_thread_is_reported(loading: Server) -> None:
    """No caller waits for the thread, so the log says why nothing runs."""

    def fail() -> RecordingService:
        raise EngineError("no thread can be started")

    first, second = Part(), Part()
    loading.loaded, loading.calls = True, first.lifecycle
    first.service.start = fail  # type: ignore[method-assign]

    assert (second.claims, first.claims) == (False, False)
    assert first.notes == ["no thread can be started"]


def test_two_that_are_served_are_reported_after_the_servers_start(loading: Server) -> None:
    """The server is up: the newest runs, and a notice describes the conflict."""
    first, second = Part(), Part()
    loading.loaded, loading.calls = True, [first.lifecycle, second.lifecycle]

    assert (first.claims, second.claims) == (False, True)
    assert second.notes == ["two of them are served"]


def test_a_served_middleware_is_not_replaced_by_a_later_one(server: Server) -> None:
    """An application may be built later, for example for a test client."""
    first = Part()
    first.lifecycle.start_automatically()
    server.calls = first.lifecycle
    before = first.claims

    second = Part()

    assert (before, first.claims, second.claims) == (True, True, False)
    assert (first.notes, second.notes) == ([], [])


def test_a_served_middleware_replaces_one_that_is_not(server: Server) -> None:
    """The first one started alone, before the server showed what it calls."""
    first = Part()
    before = first.claims
    server.waits = True
    second = Part()
    server.calls = second.lifecycle

    second.lifecycle.set_server(server)
    second.lifecycle.start_automatically()

    assert (before, first.claims, second.claims) == (True, False, True)
    assert (first.service.calls, first.notes) == (["start", "stop_claiming", "shutdown"], [])


def test_a_request_does_not_wait_for_the_drain_of_a_dropped_middleware(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drain may take long, so the next one starts in a thread."""
    later: list[Callable[[], None]] = []
    monkeypatch.setattr(lifecycle, "spawn", lambda target, _name: later.append(target))
    first = Part()
    calls = first.service.calls
    server.waits = True
    second = Part()
    del first

    second.lifecycle.first_request({})
    before = list(calls), second.claims
    for target in later:
        target()

    assert (before, calls) == ((["start"], False), ["start", "stop_claiming", "shutdown"])
    assert second.claims


@pytest.mark.parametrize("fault", [LookupError("frames"), RuntimeError("changed size")])
def test_an_error_while_reading_the_servers_application_is_ignored(
    server: Server, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """The start does not fail; a request decides."""

    def broken() -> object:
        raise fault

    monkeypatch.setattr(server, "application", broken)
    parts = late(server, ALONE, ALONE)
    start(*parts)
    parts[0].lifecycle.first_request({})

    assert [part.claims for part in parts] == [True, False]


def test_an_eager_middleware_does_not_wait(server: Server) -> None:
    """It starts at once; a second one of the same store is an error."""
    first = Part(start=Start.EAGER)
    server.calls = first.lifecycle

    with pytest.raises(EngineError, match="two of them are served"):
        Part(start=Start.EAGER)
    assert first.claims


def test_an_eager_middleware_starts_after_a_dropped_one_was_shut_down(server: Server) -> None:
    """The dropped one may lie in a reference cycle."""
    first = Part(start=Start.EAGER)
    first.itself = first  # type: ignore[attr-defined]
    calls = first.service.calls
    del first

    second = Part(start=Start.EAGER)

    assert (calls, second.claims) == (["start", "stop_claiming", "shutdown"], True)
    assert server.loaded


# Dropped, of whatever identity ----------------------------------------------------------


@pytest.mark.parametrize(
    "others", [[], [Identity(("other",), "")]], ids=["alone", "beside another"]
)
def test_one_that_is_dropped_into_a_reference_cycle_while_loading_never_claims(
    loading: Server, others: list[Identity]
) -> None:
    """The collector is called because the server's application does not lead to it."""
    first = Part()
    first.itself = first  # type: ignore[attr-defined]
    service = first.service
    del first
    more = [Part(identity) for identity in others]
    loading.loaded, loading.calls = True, [part.lifecycle for part in more]

    assert not service.accepts_work()
    assert all(part.claims for part in more)


def test_one_that_references_do_not_show_but_that_is_alive_claims(loading: Server) -> None:
    """A lifecycle that is still alive after a garbage collection is in use."""
    part = Part()
    loading.loaded, loading.calls = True, "an app that shows nothing"

    assert part.claims
