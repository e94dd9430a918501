"""One middleware's part in this process, without any server around it."""

from __future__ import annotations

import gc
import os
import sys
import weakref
from typing import TYPE_CHECKING

import pytest

from pulse.core.policies import Start
from pulse.errors import EngineError
from pulse.serving import gunicorn, install, lifecycle

if TYPE_CHECKING:
    from collections.abc import Callable


class Served:
    """Writes down what it is told, and fails to begin if it is to."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.told: list[object] = []
        self.serving: Callable[[], bool] | None = None
        self._fault = fault

    def set_accepting(self, serving: Callable[[], bool]) -> None:
        """Keep the question."""
        self.serving = serving

    def start(self) -> Served:
        """Record it, or fail."""
        if self._fault is not None:
            raise self._fault
        self.told.append("begin")
        return self

    def stop_claiming(self) -> None:
        """Record it."""
        self.told.append("quiet")

    def shutdown(self, limit_s: float | None) -> None:
        """Record it."""
        self.told.append(("end", limit_s))

    def forked(self) -> None:
        """Record it."""
        self.told.append("forked")


@pytest.fixture
def no_test_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process look as one that pytest does not run."""
    monkeypatch.delitem(sys.modules, "pytest")


@pytest.mark.usefixtures("no_test_run")
def test_the_first_request_begins_once() -> None:
    """Building begins nothing, the first request begins, the second changes nothing."""
    served = Served()
    here = install(served)
    before = (here.pending, here.is_begun(), list(served.told))

    here.first_request({})
    here.first_request({})

    assert before == (True, False, [])
    assert (here.pending, here.is_begun(), served.told) == (False, True, ["begin"])


def test_under_pytest_nothing_is_pending() -> None:
    """A process that pytest runs does not even look at its requests."""
    assert install(Served()).pending is False


@pytest.mark.usefixtures("no_test_run")
def test_a_test_client_leaves_it_pending() -> None:
    """A request marked by paste.testing shows nothing; a real one may still come."""
    served = Served()
    here = install(served)

    here.first_request({"paste.testing": True})

    assert (here.pending, served.told) == (True, [])


@pytest.mark.usefixtures("no_test_run")
def test_a_shell_leaves_it_pending(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interactive interpreter may request what it likes."""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    served = Served()

    install(served).first_request({})

    assert served.told == []


def test_eager_begins_at_once_even_under_pytest() -> None:
    """`eager` asks nobody."""
    served = Served()

    install(served, start=Start.EAGER)

    assert served.told == ["begin"]


def test_off_is_never_pending_but_can_be_begun_by_hand() -> None:
    """With `off` no request begins it; the hooks of `pulse.gunicorn` do."""
    served = Served()
    here = install(served, start=Start.OFF)
    before = here.pending

    here.begin()

    assert (before, served.told) == (False, ["begin"])


@pytest.mark.parametrize("word", ["off", " OFF "])
def test_the_environment_overrides_everything(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """PULSE_START=off keeps even `eager` and a call by hand from beginning."""
    monkeypatch.setenv("PULSE_START", word)
    served = Served()

    install(served, start=Start.EAGER).begin()

    assert served.told == []


def test_the_end_comes_once() -> None:
    """A second quiet and a second end tell it nothing."""
    served = Served()
    here = install(served, start=Start.EAGER)

    for _ in range(2):
        here.quiet()
        here.end()

    assert served.told == ["begin", "quiet", ("end", None)]


def test_what_has_not_begun_does_not_end() -> None:
    """Neither quiet nor end reaches it before it has begun."""
    served = Served()
    here = install(served, start=Start.OFF)

    here.quiet()
    here.end()

    assert served.told == []


def test_the_question_is_handed_over_and_answered() -> None:
    """Outside every known server the answer is yes."""
    served = Served()
    kept = install(served, start=Start.OFF)

    assert served.serving is not None
    assert served.serving() is kept.serving() is True


def test_a_start_that_fails_is_an_error_where_the_server_starts() -> None:
    """Before any request the error is raised: the server must not come up without pulse."""
    with pytest.raises(EngineError, match="no"):
        install(Served(EngineError("no")), start=Start.EAGER)


@pytest.mark.usefixtures("no_test_run")
def test_a_start_that_fails_at_a_request_is_only_noted() -> None:
    """The request is answered, a notice says why nothing runs, and nothing is tried again."""
    notes: list[str] = []
    here = install(Served(EngineError("no engine here")), notice=notes.append)

    here.first_request({})

    assert notes == ["no engine here"]
    assert here.pending is False


@pytest.mark.usefixtures("no_test_run")
def test_detection_that_fails_only_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks for the server may break: the first request begins all the same."""

    def broken() -> None:
        raise LookupError("frames")

    monkeypatch.setattr(lifecycle, "FINDERS", (broken,))
    notes: list[str] = []
    served = Served()

    here = install(served, notice=notes.append)
    here.first_request({})

    assert served.told == ["begin"]
    assert "LookupError('frames')" in notes[0]


def test_a_notice_nobody_takes_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a taker a notice shows as a warning."""
    monkeypatch.setattr(lifecycle, "FINDERS", (lambda: 1 // 0,))

    with pytest.warns(RuntimeWarning, match="ZeroDivisionError"):
        install(Served(), start=Start.OFF)


def test_a_fork_forgets_the_parent_and_never_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fork it is as new, even where looking at the stack fails."""
    notes: list[str] = []
    served = Served()
    here = install(served, start=Start.EAGER, notice=notes.append)
    monkeypatch.setattr(gunicorn, "find_forked", lambda: 1 // 0)

    here.forked()

    assert (here.is_begun(), here.pending) == (False, True)
    assert "ZeroDivisionError" in notes[0]


def test_a_real_fork_reaches_a_living_arrangement() -> None:
    """The at-fork callback resets the child's state and leaves the parent's."""
    here = install(Served(), start=Start.EAGER)
    child = os.fork()
    if not child:
        os._exit(0 if not here.is_begun() and here.pending else 1)

    _, status = os.waitpid(child, 0)

    assert (status, here.is_begun()) == (0, True)


def test_nothing_else_keeps_it_alive() -> None:
    """An arrangement ends with its owner, although forks would be told to it."""
    kept = weakref.ref(install(Served(), start=Start.OFF))
    gc.collect()

    assert kept() is None


# In a forked child ----------------------------------------------------------------------------


class Place:
    """A server that was recognised."""

    def enter(self, member: lifecycle.ServiceLifecycle) -> None:
        """Take the member in, and begin."""
        member.belong(self)
        member.enter()

    def serving(self) -> bool:
        """Return True."""
        return True

    def limit_s(self) -> None:
        """Return None."""


@pytest.fixture
def patched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process look as one that gevent has patched."""
    monkeypatch.setattr(lifecycle, "process_is_patched", lambda: True)


def test_what_is_served_hears_of_each_fork() -> None:
    """Whether it has begun or not: it may be about to."""
    served = Served()
    here = install(served, start=Start.OFF)
    here.forked()
    here.begin()
    here.forked()
    assert served.told == ["forked", "begin", "forked"]


@pytest.mark.usefixtures("no_test_run", "patched")
def test_no_request_begins_a_copy_of_a_process_that_serves() -> None:
    """The greenlets that accept connections are copied into its children, which wait for others."""
    served = Served()
    here = install(served)
    here.first_request({})
    here.forked()
    assert (here.pending, here.is_begun(), served.told) == (False, False, ["begin", "forked"])


@pytest.mark.usefixtures("no_test_run", "patched")
def test_no_request_begins_a_copy_of_a_copy() -> None:
    """A fork of a fork accepts by accident as well."""
    here = install(Served())
    here.first_request({})
    here.forked()
    here.forked()
    assert here.pending is False


@pytest.mark.usefixtures("no_test_run", "patched")
@pytest.mark.parametrize("start", [Start.AUTO, Start.EAGER])
def test_no_request_begins_a_copy_of_a_worker(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that was recognised needs no request to show that it serves."""
    monkeypatch.setattr(lifecycle, "FINDERS", (Place,))
    here = install(Served(), start=start)
    here.forked()
    assert here.pending is False


def test_a_beginning_that_waited_as_the_fork_came_begins_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It may wait for the drain of a middleware that was dropped, in a greenlet that is copied."""
    served = Served()
    here = install(served, start=Start.OFF)
    with monkeypatch.context() as patch:
        patch.setattr(type(lifecycle.REGISTRY), "retire", lambda _: here.forked())
        here.begin()
    assert (here.is_begun(), served.told) == (False, ["forked"])


@pytest.mark.usefixtures("no_test_run", "patched")
def test_a_worker_of_a_copy_begins() -> None:
    """What recognises the child as a worker, or asks for it, begins it all the same."""
    served = Served()
    here = install(served)
    here.first_request({})
    here.forked()
    Place().enter(here)
    assert here.is_begun()


@pytest.mark.usefixtures("no_test_run")
def test_a_child_of_an_ordinary_process_begins_at_its_first_request() -> None:
    """There nothing accepts in the child but what the application starts in it."""
    here = install(Served())
    here.first_request({})
    here.forked()
    assert here.pending is True


@pytest.mark.usefixtures("no_test_run", "patched")
def test_a_child_of_a_process_that_has_not_begun_begins_at_its_first_request() -> None:
    """A master that nobody recognises has children that serve."""
    here = install(Served())
    here.forked()
    assert here.pending is True


@pytest.mark.usefixtures("patched")
def test_a_child_of_an_eager_master_begins_at_its_first_request() -> None:
    """`eager` begins in any process; one that has answered nothing may be a master."""
    here = install(Served(), start=Start.EAGER)
    here.forked()
    assert here.pending is True


@pytest.mark.usefixtures("patched")
def test_no_request_begins_a_copy_of_an_eager_process_that_has_answered_one() -> None:
    """The first request is looked at for this alone: it begins nothing again."""
    served = Served()
    here = install(served, start=Start.EAGER)
    awaited = here.pending
    here.first_request({})
    here.first_request({})
    looked = here.pending
    here.forked()
    assert (awaited, looked, here.pending) == (True, False, False)
    assert served.told == ["begin", "forked"]
