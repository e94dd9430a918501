"""Several middlewares of one identity in a process: only what is served takes part."""

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
        """Keep the question."""
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
        """Begin at once, as waitress does, unless there is a moment for it later."""
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
    """Return the server around this process, which pytest does not seem to run."""
    monkeypatch.delitem(sys.modules, "pytest")
    found = Server()
    registry = ProcessRegistry()
    for module in (lifecycle, installation):
        monkeypatch.setattr(module, "REGISTRY", registry)
    monkeypatch.setattr(lifecycle, "spawn", lambda target, _name: target())
    monkeypatch.setattr(installation, "DETECTORS", (lambda: found,))
    return found


class Part:
    """A middleware's arrangement, and what came of it."""

    def __init__(self, identity: Identity | None = ALONE, start: Start = Start.AUTO) -> None:
        self.service = RecordingService()
        self.notes: list[str] = []
        self.lifecycle: ServiceLifecycle = install(
            self.service, start=start, identity=identity, notice=self.notes.append
        )

    @property
    def claims(self) -> bool:
        """Return whether a scheduler runs here and may claim."""
        calls = self.service.calls
        running = bool(calls) and calls[-1] == "start"
        return running and self.service.accepts_work()


def late(server: Server, *identities: Identity | None, start: Start = Start.AUTO) -> list[Part]:
    """Return parts that a server such as gunicorn begins once all is loaded."""
    server.waits = True
    return [Part(identity, start) for identity in identities]


def enter(*parts: Part) -> None:
    """Let the server begin them, one after the other."""
    for part in parts:
        part.lifecycle.start_automatically()


# Begun when all is loaded, by a server that shows what it calls -------------------------


@pytest.mark.parametrize("served", [0, 1], ids=["the first", "the second"])
@pytest.mark.parametrize("identity", [ALONE, BESIDE], ids=["one store", "memory"])
def test_the_one_that_the_server_reaches_takes_part(
    server: Server, identity: Identity, served: int
) -> None:
    """The other one is held by somebody else, and waits for a request."""
    parts = late(server, identity, identity)
    server.calls = {"app": parts[served].lifecycle}

    enter(*parts)

    assert [part.claims for part in parts] == [served == 0, served == 1]
    assert [part.lifecycle.pending for part in parts] == [served == 1, served == 0]
    assert [part.notes for part in parts] == [[], []]


def test_two_that_are_served_are_an_error_where_they_share_a_store(server: Server) -> None:
    """It is the server's start that fails, and the error says what to do."""
    parts = late(server, ALONE, ALONE)
    server.calls = [part.lifecycle for part in parts]
    parts[0].lifecycle.start_automatically()

    with pytest.raises(EngineError, match="two of them are served"):
        parts[1].lifecycle.start_automatically()


def test_two_that_are_served_take_part_where_they_share_nothing(server: Server) -> None:
    """Each has a store of its own in memory."""
    parts = late(server, BESIDE, BESIDE)
    server.calls = [part.lifecycle for part in parts]

    enter(*parts)

    assert [part.claims for part in parts] == [True, True]


@pytest.mark.parametrize("identity", [Identity(("other",), ""), None], ids=["other", "none"])
def test_others_are_no_rivals(server: Server, identity: Identity | None) -> None:
    """What acts as another application takes part, whatever the server reaches."""
    parts = late(server, ALONE, identity)
    server.calls = parts[0].lifecycle

    enter(*parts)

    assert [part.claims for part in parts] == [True, True]


@pytest.mark.parametrize("calls", [None, "an app that shows nothing"], ids=["unknown", "opaque"])
def test_where_nothing_shows_it_the_first_request_decides(server: Server, calls: object) -> None:
    """Both wait, the log says why; the one that is requested takes part, the other does not."""
    parts = late(server, ALONE, ALONE)
    server.calls = calls
    enter(*parts)
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
    """It serves nobody."""
    parts = late(server, ALONE, ALONE)
    enter(*parts)

    parts[0].lifecycle.first_request({"paste.testing": True})

    assert [part.claims for part in parts] == [False, False]


def test_one_that_was_dropped_is_no_rival(server: Server) -> None:
    """It is not waited for, and nothing is noted."""
    parts = late(server, ALONE, ALONE)
    del parts[0]

    enter(*parts)

    assert (parts[0].claims, parts[0].notes) == (True, [])


def test_one_that_lies_in_a_cycle_is_no_rival(server: Server) -> None:
    """A Flask app holds itself: the collector is called, where it has not come by."""
    parts = late(server, ALONE, ALONE)
    parts[0].itself = parts[0]  # type: ignore[attr-defined]
    del parts[0]

    enter(*parts)

    assert (parts[0].claims, parts[0].notes) == (True, [])


def test_one_that_never_begins_is_no_rival(server: Server) -> None:
    """With `start = off` it takes no part."""
    part, off = late(server, ALONE)[0], Part(start=Start.OFF)

    enter(part)

    assert (part.claims, off.claims) == (True, False)


def test_the_hooks_choose_among_those_that_never_begin_by_themselves(server: Server) -> None:
    """`pulse.gunicorn` begins all; the one that is not served waits for a request."""
    parts = late(server, ALONE, ALONE, start=Start.OFF)
    server.calls = parts[1].lifecycle

    for part in parts:
        part.lifecycle.start()

    assert [part.claims for part in parts] == [False, True]
    assert [part.lifecycle.pending for part in parts] == [True, False]


def test_after_a_fork_rivals_are_judged_anew(server: Server) -> None:
    """What was known of the parent's says nothing of the child's."""
    parts = late(server, ALONE, ALONE)
    server.calls = parts[0].lifecycle
    enter(*parts)
    for part in parts:
        part.lifecycle.forked()
        part.lifecycle.set_server(server)
    server.calls = parts[1].lifecycle

    enter(*parts)

    assert parts[1].claims


# Begun while the application is loaded --------------------------------------------------


@pytest.fixture
def loading(server: Server) -> Server:
    """Return a server that begins what is built while it loads."""
    server.loaded = False
    return server


def test_while_it_is_loaded_the_newest_stands_in(loading: Server) -> None:
    """It has the store, but claims nothing; the older one has left it."""
    first, second = Part(), Part()

    assert first.service.calls == ["start", "stop_claiming", "shutdown"]
    assert second.service.calls == ["start"]
    assert [first.claims, second.claims] == [False, False]
    assert loading.loaded is False


def test_the_newest_goes_on_where_it_is_served(loading: Server) -> None:
    """As soon as the server shows what it calls, without a request."""
    first, second = Part(), Part()
    loading.loaded, loading.calls = True, [second.lifecycle]

    assert (first.claims, second.claims) == (False, True)
    assert (first.notes, second.notes, second.lifecycle.pending) == ([], [], False)


def test_the_newest_goes_on_where_the_older_one_is_dropped(loading: Server) -> None:
    """A factory was called twice, and its first result was replaced."""
    first, second = Part(), Part()
    del first
    loading.loaded = True

    assert (second.claims, second.notes) == (True, [])


def test_what_was_dropped_while_loading_has_ended_before_the_next_begins(loading: Server) -> None:
    """It leaves the store first."""
    first = Part()
    calls = first.service.calls
    del first

    second = Part()
    loading.loaded = True

    assert (calls, second.claims) == (["start", "stop_claiming", "shutdown"], True)


def test_the_older_one_takes_its_place_back_where_it_is_served(loading: Server) -> None:
    """The newest finds out, as it asks whether to claim, and leaves the store first."""
    first, second = Part(), Part()
    loading.loaded, loading.calls = True, first.lifecycle

    assert (second.claims, first.claims) == (False, True)
    assert second.service.calls == ["start", "stop_claiming", "shutdown"]
    assert (first.notes, second.notes) == ([], [])


def test_the_older_one_takes_its_place_back_with_a_request(loading: Server) -> None:
    """Where the server shows nothing."""
    first, second = Part(), Part()
    loading.loaded = True
    before = second.claims

    first.lifecycle.first_request({})

    assert (before, first.claims, second.claims) == (False, True, False)
    assert second.service.calls == ["start", "stop_claiming", "shutdown"]


def test_the_newest_goes_on_with_a_request(loading: Server) -> None:
    """Where the server shows nothing, a request does."""
    first, second = Part(), Part()
    loading.loaded = True
    before = [second.claims for _ in range(MAX_CHECKS + 1)]

    second.lifecycle.first_request({})

    assert (before, second.claims) == ([False] * (MAX_CHECKS + 1), True)
    assert (first.notes, second.notes) == ([], [UNDECIDED])


def test_both_begin_where_they_share_nothing_and_both_are_served(loading: Server) -> None:
    """The newest finds out, and lets the older one begin again."""
    first, second = Part(BESIDE), Part(BESIDE)
    loading.loaded, loading.calls = True, [first.lifecycle, second.lifecycle]

    assert (second.claims, first.claims, second.claims) == (True, True, True)


def test_of_two_that_share_nothing_the_one_that_is_not_served_waits(loading: Server) -> None:
    """A request begins it after all."""
    first, second = Part(BESIDE), Part(BESIDE)
    loading.loaded, loading.calls = True, [second.lifecycle]
    before = (second.claims, first.claims)

    first.lifecycle.first_request({})

    assert (before, second.claims, first.claims) == ((True, False), True, True)


def test_a_start_that_fails_beside_is_noted(loading: Server) -> None:
    """Nobody waits for it: the log says why nothing runs."""
    first, second = Part(), Part()
    loading.loaded, loading.calls = True, first.lifecycle
    first.service.start = lambda: 1 // 0  # type: ignore[method-assign,return-value]

    assert (second.claims, first.claims) == (False, False)
    assert first.notes == ["integer division or modulo by zero"]


def test_two_that_are_served_are_told_of_where_the_start_is_past(loading: Server) -> None:
    """The server is up: the newest takes part, and the log says what is wrong."""
    first, second = Part(), Part()
    loading.loaded, loading.calls = True, [first.lifecycle, second.lifecycle]

    assert (first.claims, second.claims) == (False, True)
    assert second.notes == ["two of them are served"]


def test_who_serves_already_is_not_disturbed(server: Server) -> None:
    """An application that is built later, for a test client, takes nobody's place."""
    first = Part()
    first.lifecycle.start_automatically()
    server.calls = first.lifecycle
    before = first.claims

    second = Part()

    assert (before, first.claims, second.claims) == (True, True, False)
    assert (first.notes, second.notes) == ([], [])


def test_one_that_is_served_takes_the_place_of_one_that_is_not(server: Server) -> None:
    """The server could not be reached by the first, which began alone."""
    first = Part()
    before = first.claims
    server.waits = True
    second = Part()
    server.calls = second.lifecycle

    second.lifecycle.set_server(server)
    second.lifecycle.start_automatically()

    assert (before, first.claims, second.claims) == (True, False, True)
    assert (first.service.calls, first.notes) == (["start", "stop_claiming", "shutdown"], [])


def test_a_request_does_not_wait_for_one_that_was_dropped(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its runs may take as long as the drain: the next begins beside the request."""
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
def test_a_server_that_is_not_understood_shows_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """Its start does not fail for that; a request decides."""

    def broken() -> object:
        raise fault

    monkeypatch.setattr(server, "application", broken)
    parts = late(server, ALONE, ALONE)
    enter(*parts)
    parts[0].lifecycle.first_request({})

    assert [part.claims for part in parts] == [True, False]


def test_an_eager_one_does_not_wait(server: Server) -> None:
    """It was asked for; the second of one store is an error."""
    first = Part(start=Start.EAGER)
    server.calls = first.lifecycle

    with pytest.raises(EngineError, match="two of them are served"):
        Part(start=Start.EAGER)
    assert first.claims


def test_an_eager_one_follows_another_that_was_dropped(server: Server) -> None:
    """Also where that one lies in a cycle."""
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
def test_while_loading_one_that_lies_in_a_cycle_never_claims(
    loading: Server, others: list[Identity]
) -> None:
    """It has begun; the collector is called where what the server calls does not lead to it."""
    first = Part()
    first.itself = first  # type: ignore[attr-defined]
    service = first.service
    del first
    more = [Part(identity) for identity in others]
    loading.loaded, loading.calls = True, [part.lifecycle for part in more]

    assert not service.accepts_work()
    assert all(part.claims for part in more)


def test_one_that_the_server_calls_by_another_way_claims(loading: Server) -> None:
    """What is still in use after a collection is no garbage."""
    part = Part()
    loading.loaded, loading.calls = True, "an app that shows nothing"

    assert part.claims
