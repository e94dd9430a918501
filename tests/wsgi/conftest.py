"""Calls of applications through the runner and the dispatcher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pulse.testing.clock import FakeClock
from pulse.wsgi.dispatcher import Dispatcher
from pulse.wsgi.runner import Runner
from tests.support.claims import make_claim

if TYPE_CHECKING:
    from collections.abc import Callable
    from wsgiref.types import WSGIApplication

    from pulse.core.run import Result


@pytest.fixture
def perform() -> Callable[..., Result]:
    """Return a function that performs a run: `perform(app, action=..., base_url=...)`."""

    def perform(
        app: WSGIApplication, *, base_url: str = "http://localhost", **keywords: object
    ) -> Result:
        dispatcher = Dispatcher(app, base_url=base_url, multithread=True)
        return Runner(dispatcher, FakeClock()).perform(make_claim(**keywords))

    return perform
