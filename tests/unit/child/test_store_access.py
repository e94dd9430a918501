"""What a view in a child process reaches of the store, and what it leaves alone."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, TypeVar

import msgspec
import pytest

from pulse.child.store_access import StoreAccess
from pulse.clock import SECOND
from pulse.core.runtime_task import TaskDefaults
from pulse.core.task import Task, build_definition
from pulse.engine.child_protocol import ChildSetup, StoreSetup
from pulse.errors import NotServingError, StoreUnavailableError
from pulse.handle.handle import SchedulerHandle
from pulse.store.base import StoreOptions
from pulse.store.process_identity import this_member
from pulse.store.sqlite.store import SqliteStore
from pulse.testing.clock import FakeClock
from tests.support.forks import in_child, status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

TASKS = {"cleanup": build_definition("cleanup", Task(action="cleanup", interval=60))}


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[SqliteStore]:
    """Return the store of a process that takes part."""
    store = SqliteStore(tmp_path / "pulse.db", FakeClock(), StoreOptions(name="shop"))
    store.open(this_member("processing", "digest", 30 * SECOND))
    store.sync(TASKS)
    yield store
    store.close()


def handle_of(word: str | None, origin: Path, *, holder: str = "h:1:n") -> SchedulerHandle:
    """Return the handle that a view in a child finds."""
    handle = SchedulerHandle()
    setup = StoreSetup(url=word, name="shop", origin=str(origin), holder=holder)
    handle.attach(StoreAccess(setup, FakeClock()))
    return handle


@pytest.fixture
def handle(parent: SqliteStore, tmp_path: Path) -> SchedulerHandle:
    """Return a handle that speaks for *parent*."""
    (member,) = parent.members()
    return handle_of("sqlite:///pulse.db", tmp_path, holder=member.holder)


def test_a_view_in_a_child_triggers_what_its_parent_takes(
    handle: SchedulerHandle, parent: SqliteStore
) -> None:
    """The run lies in the store, under the same application's name."""
    run = handle.trigger("cleanup", body="all")
    (claim,) = parent.claim_due(10).claims
    assert run is not None
    assert (claim.run.id, claim.run.body) == (run.id, b"all")


def test_store_is_opened_beside_the_hub_as_it_is_called(
    handle: SchedulerHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that does not answer would stall each greenlet of the process."""
    calls: list[str] = []

    def offload(call: Callable[[], T]) -> T:
        calls.append(call.func.__name__)  # type: ignore[attr-defined] # a partial
        return call()

    monkeypatch.setattr("pulse.child.store_access._offload", lambda: offload)
    handle.tasks()
    assert calls == ["open_as_client", "tasks"]


def test_a_view_in_a_child_adds_and_removes(handle: SchedulerHandle, parent: SqliteStore) -> None:
    """The parent sees both."""
    handle.add("report", Task(action="/report", interval=60))
    seen = [task.name for task in parent.tasks()]
    handle.remove("report")
    assert seen == ["cleanup", "report"]
    assert [task.name for task in parent.tasks()] == ["cleanup"]


def test_a_view_in_a_child_pauses_and_resumes(handle: SchedulerHandle, parent: SqliteStore) -> None:
    """The parent sees both."""
    seen = []
    for decide in (handle.pause, handle.resume):
        decide("cleanup")
        seen += [task.paused for task in parent.tasks()]
    assert seen == [True, False]


def test_change_by_a_view_in_a_child_is_logged_there(
    handle: SchedulerHandle, caplog: pytest.LogCaptureFixture
) -> None:
    """The parent does not see the call."""
    with caplog.at_level(logging.INFO, "pulse"):
        handle.pause("cleanup", by="ann")
        handle.add("report", Task(action="/report", interval=60))
    assert [record.getMessage() for record in caplog.records] == [
        f"paused by ann: cleanup [pid {os.getpid()}]",
        f"added at run time: report [pid {os.getpid()}]",
    ]


def test_a_visitor_is_no_member(handle: SchedulerHandle, parent: SqliteStore) -> None:
    """It reads what there is without being counted."""
    assert [task.name for task in handle.tasks()] == ["cleanup"]
    assert ([*handle.runs()], handle.members()) == ([], parent.members())


def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    """A child whose views do not ask opens no file."""
    handle_of("sqlite:///pulse.db", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_store_that_cannot_be_opened_is_tried_again(tmp_path: Path) -> None:
    """An outage is told to the view that asks, and the next one may have more luck."""
    (tmp_path / "folder").write_text("in the way")
    handle = handle_of("sqlite:///folder/pulse.db", tmp_path)
    with pytest.raises(StoreUnavailableError):
        handle.tasks()
    (tmp_path / "folder").unlink()
    assert handle.tasks() == []


def test_a_memory_store_is_refused_in_words(tmp_path: Path) -> None:
    """The worker keeps it to itself: the error says what to set instead."""
    with pytest.raises(
        NotServingError, match=r"got memory:, which only h:1:n .* pulse.config.store"
    ):
        handle_of("memory:", tmp_path).tasks()


def test_a_setup_travels_to_the_child() -> None:
    """It is sent as JSON, with the rest of what a child must know."""
    store = StoreSetup(url=None, name="shop", origin="/srv/shop.ini", holder="h:1:n")
    defaults = TaskDefaults(context="reports", guarded=("/reports",))
    setup = ChildSetup(application="shop:app", defaults=defaults, store=store)
    assert msgspec.json.decode(msgspec.json.encode(setup), type=ChildSetup) == setup


def test_a_process_that_a_view_forks_reaches_nothing(
    handle: SchedulerHandle, parent: SqliteStore, capfd: pytest.CaptureFixture[str]
) -> None:
    """The handle refuses there, and the store is neither used nor closed at the exit."""
    handle.trigger("cleanup")

    def is_refused() -> bool:
        with pytest.raises(NotServingError, match="its forked child"):
            handle.tasks()
        return True

    status = status_of(in_child(is_refused))
    assert (status, [run.task for run in parent.runs()]) == (0, ["cleanup"])
    assert capfd.readouterr() == ("", "")
