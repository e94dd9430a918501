"""The pytest plugin: the fixture `pulse_travel`, available wherever pulse is installed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from pulse.testing.time_travel import Length, TimeTravel


class Travel(Protocol):
    """Starts time travel that ends with the test."""

    def __call__(
        self,
        app: object,
        *,
        start: datetime | str | None = None,
        took: Mapping[str, Length] | None = None,
    ) -> TimeTravel:
        """Return the time travel that `pulse.testing.travel` starts."""


@pytest.fixture
def pulse_travel() -> Iterator[Travel]:
    """Start `pulse.testing.travel` with `pulse_travel(app)`; the travel ends with the test."""
    with ExitStack() as stack:

        def begin(
            app: object,
            *,
            start: datetime | str | None = None,
            took: Mapping[str, Length] | None = None,
        ) -> TimeTravel:
            from pulse.testing.time_travel import (
                travel,
            )  # loaded only by tests that use the fixture

            return stack.enter_context(travel(app, start=start, took=took))

        yield begin
