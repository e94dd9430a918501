"""The pytest plugin: the fixture `pulse_travel`, there wherever pulse is installed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from pulse.testing.time_travel import Length, TimeTravel


class Travel(Protocol):
    """Begins a trip that ends with the test."""

    def __call__(
        self,
        app: object,
        *,
        start: datetime | str | None = None,
        took: Mapping[str, Length] | None = None,
    ) -> TimeTravel:
        """Return the trip of `pulse.testing.travel`, begun."""


@pytest.fixture
def pulse_travel() -> Iterator[Travel]:
    """Begin trips that end with the test, as `pulse.testing.travel` does: `pulse_travel(app)`."""
    with ExitStack() as trips:

        def begin(
            app: object,
            *,
            start: datetime | str | None = None,
            took: Mapping[str, Length] | None = None,
        ) -> TimeTravel:
            from pulse.testing.time_travel import travel  # where nobody travels, nothing is loaded

            return trips.enter_context(travel(app, start=start, took=took))

        yield begin
