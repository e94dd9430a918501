"""Bad task names that a view passes to the handle are refused with an error of pulse."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.errors import PulseError, StoreUnavailableError
from pulse.handle.handle import SchedulerHandle
from tests.contracts.suite.store_harness import make_task
from tests.support.setups import error_of
from tests.support.stores import POSTGRES, REDIS

if TYPE_CHECKING:
    from pulse.store.base import Store
    from tests.contracts.suite.store_harness import Fleet

VERBS = ["trigger", "pause", "resume", "remove"]


class Direct:
    """Connects a handle to a store without a scheduler."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def wake(self) -> None:
        """Do nothing: there is no loop to wake."""

    def emit(self, *_: object) -> None:
        """Do nothing: there are no listeners."""


def is_refused(fleet: Fleet, verb: str, name: object) -> bool:
    """Return whether the handle refuses the name, with an error that is no outage."""
    handle = SchedulerHandle()
    handle.attach(Direct(fleet.join({"work": make_task()}).store))
    error = error_of(getattr(handle, verb), name)
    return isinstance(error, PulseError) and not isinstance(error, StoreUnavailableError)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", [None, 7, ["work"]], ids=repr)
def test_name_that_is_no_text_is_refused(fleet: Fleet, verb: str, name: object) -> None:
    """A view that reads the name from a missing query argument passes None."""
    assert is_refused(fleet, verb, name)


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "fleet",
    [POSTGRES, REDIS],
    indirect=True,
)
def test_name_in_bytes_is_refused(fleet: Fleet, verb: str) -> None:
    """The error does not report an outage of the store."""
    assert is_refused(fleet, verb, b"work")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("fleet", ["sqlite", REDIS], indirect=True)
def test_name_with_a_lone_surrogate_is_refused(fleet: Fleet, verb: str) -> None:
    """Python decodes a query string that is not UTF-8 to such a text."""
    assert is_refused(fleet, verb, "w\udcffrk")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    "name", ["", "other", "wo\0rk", "x" * 10_000], ids=["empty", "other", "NUL", "long"]
)
def test_unknown_name_is_refused(fleet: Fleet, verb: str, name: str) -> None:
    """Any text is a possible name, and none of these is the name of a task."""
    assert is_refused(fleet, verb, name)


@pytest.mark.parametrize("verb", VERBS[:3])
def test_known_name_is_accepted(fleet: Fleet, verb: str) -> None:
    """The helper of this file reaches the store."""
    assert not is_refused(fleet, verb, "work")
