"""Fixtures that all unit tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.leaked_threads import leaked_threads, pulse_threads

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S = 5.0
"""How long a thread may take to end after its test, on a busy machine."""


@pytest.fixture(autouse=True)
def _no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves threads of pulse behind, such as a running scheduler's."""
    before = pulse_threads()
    yield
    if leaked := leaked_threads(before, wait_s=WAIT_S):
        pytest.fail(f"the test left threads of pulse running: {', '.join(leaked)}")
