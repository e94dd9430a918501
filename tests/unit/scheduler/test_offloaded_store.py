"""How calls of the scheduler and of the application reach a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.core.policies import Scope
from pulse.errors import NotServingError
from pulse.forks import ForkMark
from pulse.scheduler.offloaded_store import OffloadedStore
from pulse.store.base import Store
from pulse.store.steering import Steering

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWER = object()

CALLS: list[tuple[str, tuple[object, ...], dict[str, object]]] = [
    ("open", ("member",), {"report": "report"}),
    ("open_as_client", ("member",), {}),
    ("open_as_worker", ("member",), {"report": "report"}),
    ("close", (), {}),
    ("sync", ({"name": "definition"},), {}),
    ("add", ("runtime task",), {"replace": True, "by": "anna"}),
    ("remove", ("name",), {"by": "anna"}),
    ("claim_due", (7,), {}),
    ("finish", (["ended"],), {}),
    ("renew", (["claim"],), {}),
    ("post", (["posted"],), {}),
    ("take", ("ident", 2), {"poster": "holder", "definition": "definition"}),
    ("give_back", (["returned"],), {}),
    ("runtime_definition", ("name",), {}),
    ("heartbeat", (), {}),
    ("look", (7,), {"partitions": ["holder"], "observed": "seen"}),
    ("keep_alive", ({"holder": None},), {}),
    ("rest", (), {}),
    ("trigger", ("name",), {"body": b"body", "by": "anna", "ident": "id"}),
    ("audit", (), {"before": 7, "limit": 3}),
    ("pause", ("name", "pause"), {"by": "anna"}),
    ("pause_of_all", (), {}),
    ("begin", ("name", "definition"), {"body": b"body", "by": "anna", "at_once": True}),
    ("stop_request", ("run",), {}),
    ("stop", ("ident",), {"by": "anna", "note": "why"}),
    ("delete_runs", ("query",), {"by": "anna", "note": "why"}),
    ("tasks", ("name",), {}),
    ("records", ("name",), {}),
    ("runs", (), {"task": "name", "limit": 3}),
    ("history", ("query",), {}),
    ("run", ("ident",), {}),
    ("members", (), {}),
    ("now", (), {}),
]
RETURN_NOTHING = {"open", "open_as_client", "open_as_worker", "close", "remove", "rest"}

each_method = pytest.mark.parametrize(
    ("method", "words", "options"), CALLS, ids=[method for method, _, _ in CALLS]
)


class Witness:
    """A store that records its calls."""

    name, reach, notice = "witness:", Scope.HOST, ""

    def __init__(self, *, blocking: bool) -> None:
        self.blocking = blocking
        self.seen: list[tuple[str, tuple[object, ...], dict[str, object]]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def __getattr__(self, method: str) -> Callable[..., object]:
        def call(*words: object, **options: object) -> object:
            self.seen.append((method, words, options))
            self.meanwhile()
            return ANSWER

        return call


def offload_to(calls: list[object]) -> Callable[[Callable[[], object]], object]:
    """Return an `offload` that records what it runs."""

    def offload(call: Callable[[], object]) -> object:
        calls.append(call)
        return call()

    return offload


@each_method
def test_call_reaches_the_store_with_its_arguments(
    method: str, words: tuple[object, ...], options: dict[str, object]
) -> None:
    """The answer is the store's, where the interface has one."""
    store = Witness(blocking=False)
    answer = getattr(OffloadedStore(store, ForkMark()), method)(*words, **options)
    assert store.seen == [(method, words, options)]
    assert answer is (None if method in RETURN_NOTHING else ANSWER)


@each_method
def test_call_in_a_forked_child_is_refused(
    method: str, words: tuple[object, ...], options: dict[str, object]
) -> None:
    """The store of the parent process is not called."""
    store, mark = Witness(blocking=True), ForkMark()
    wrapped = OffloadedStore(store, mark, offload=lambda call: call())
    mark.set()
    with pytest.raises(NotServingError, match="its forked child"):
        getattr(wrapped, method)(*words, **options)
    assert store.seen == []


def test_every_method_of_a_store_is_listed() -> None:
    """A method that is added to the interface is tested here too; `forked` is never refused."""
    members = {**vars(Steering), **vars(Store)}
    methods = {name for name, value in members.items() if callable(value) and name[0] != "_"}
    assert methods == {method for method, _, _ in CALLS} | {"forked"}


@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "direct"])
def test_only_calls_of_a_blocking_store_are_offloaded(*, blocking: bool) -> None:
    """A call that does not stall the hub is made where it is."""
    offloaded: list[object] = []
    store = OffloadedStore(Witness(blocking=blocking), ForkMark(), offload=offload_to(offloaded))
    store.tasks()
    assert (len(offloaded), store.blocking) == (blocking, False)


def test_fork_during_a_call_keeps_the_copied_greenlet_in_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer belongs to the parent process."""
    stayed = []
    monkeypatch.setattr(ForkMark, "stay", lambda _: stayed.append("stayed"))
    store, mark = Witness(blocking=False), ForkMark()
    store.meanwhile = mark.set
    OffloadedStore(store, mark).tasks()
    assert stayed == ["stayed"]


def test_forked_reaches_the_store_in_the_child() -> None:
    """The store severs its connections there."""
    store, mark = Witness(blocking=True), ForkMark()
    mark.set()
    OffloadedStore(store, mark).forked()
    assert [method for method, _, _ in store.seen] == ["forked"]


def test_notice_is_known_once_the_store_is_open() -> None:
    """Redis says only then what its settings may lose."""
    store = Witness(blocking=False)
    wrapped = OffloadedStore(store, ForkMark())
    store.meanwhile = lambda: setattr(store, "notice", "may lose data")
    wrapped.open("member")
    assert wrapped.notice == "may lose data"
