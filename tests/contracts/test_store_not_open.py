"""Calls of the application while its store is not open, or is being opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest

from pulse.clock import SECOND
from pulse.core.runtime_task import TaskDefaults, make_runtime_task
from pulse.errors import PulseError, StoreUnavailableError
from pulse.store.base import PostedRun, ReturnedRun
from pulse.store.process_identity import this_member
from pulse.store.steering import Pause
from tests.contracts.suite.store_harness import make_task
from tests.support.claims import make_claim
from tests.support.setups import error_of, require
from tests.support.stores import SHARED

if TYPE_CHECKING:
    from collections.abc import Callable

    from pulse.store.base import Member, Store
    from tests.contracts.suite.store_harness import Fleet, MakeStore

    Verb = Callable[[Store], object]

pytestmark = pytest.mark.parametrize("fleet", SHARED, indirect=True)

CLAIM = make_claim("work")
VERBS: Final[dict[str, Verb]] = {
    "tasks": lambda store: store.tasks(),
    "runs": lambda store: store.runs(),
    "members": lambda store: store.members(),
    "pause": lambda store: store.pause("work", Pause()),
    "resume": lambda store: store.pause("work", None),
    "trigger": lambda store: store.trigger("work"),
    "add": lambda store: store.add(make_runtime_task("work", make_task(), TaskDefaults())),
    "remove": lambda store: store.remove("work"),
    "post": lambda store: store.post([PostedRun(CLAIM, SECOND, "pulse")]),
    "take": lambda store: store.take("0" * 32, 1, poster="a", definition=CLAIM.definition),
    "give back": lambda store: store.give_back([ReturnedRun(CLAIM, SECOND, "lost")]),
    "definition": lambda store: store.runtime_definition("work"),
}
MEMBER = this_member("inline", "digest", 30 * SECOND)


class Opening:
    """A store, and the errors of its methods before and after `open` reaches the storage."""

    def __init__(self, fleet: Fleet) -> None:
        make: MakeStore = fleet._make
        self.store: Any = make(fleet.clock)
        self.before: dict[str, Exception | None] = {}
        self.after: dict[str, Exception | None] = {}
        backend = self.store._backend
        self._reach = backend.open
        backend.open = self._open

    def _open(self, member: Member) -> None:
        self.before = {name: error_of(verb, self.store) for name, verb in VERBS.items()}
        self._reach(member)
        self.after = {name: error_of(verb, self.store) for name, verb in VERBS.items()}

    def run(self, enter: str = "open") -> Opening:
        """Open the store, or open it as a client, and close it."""
        getattr(self.store, enter)(MEMBER)
        self.store.close()
        require(self.before, "calls during the start")
        return self


@pytest.mark.parametrize("verb", VERBS)
def test_call_before_the_storage_is_reached_is_unavailable(fleet: Fleet, verb: str) -> None:
    """A slow server delays the start, and a view can answer 503 meanwhile."""
    assert isinstance(Opening(fleet).run().before[verb], StoreUnavailableError)


@pytest.mark.parametrize("enter", ["open_as_client", "open_as_worker"])
def test_call_in_a_child_before_the_storage_is_reached_is_unavailable(
    fleet: Fleet, enter: str
) -> None:
    """The same holds for a child process that opens the store as a client, and for a worker."""
    errors = Opening(fleet).run(enter).before
    assert {name for name, one in errors.items() if not isinstance(one, StoreUnavailableError)} == (
        set()
    )


@pytest.mark.parametrize("enter", ["open", "open_as_client", "open_as_worker"])
def test_call_before_the_process_has_joined_raises_only_errors_of_pulse(
    fleet: Fleet, enter: str
) -> None:
    """The storage is reached, and the process is not recorded there yet."""
    errors = Opening(fleet).run(enter).after
    unforeseen = {
        name for name, one in errors.items() if one is not None and not isinstance(one, PulseError)
    }
    assert unforeseen == set()


@pytest.mark.parametrize("verb", VERBS)
def test_call_before_the_store_is_opened_is_unavailable(fleet: Fleet, verb: str) -> None:
    """The store was only built."""
    store = fleet._make(fleet.clock)
    assert isinstance(error_of(VERBS[verb], store), StoreUnavailableError)


@pytest.mark.parametrize("verb", VERBS)
def test_call_after_the_store_was_closed_is_unavailable(fleet: Fleet, verb: str) -> None:
    """The store was open before."""
    process = fleet.join({"work": make_task()})
    process.store.close()
    assert isinstance(error_of(VERBS[verb], process.store), StoreUnavailableError)
