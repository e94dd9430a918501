"""The Redis store: a shared store whose backend is a Redis server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.clock import SECOND
from pulse.core.policies import Scope
from pulse.store.base import DEFAULT_OPTIONS, StoreOptions
from pulse.store.redis.backend import RedisBackend
from pulse.store.shared.store import SharedStore

if TYPE_CHECKING:
    from pulse.clock import Clock, Span
    from pulse.store.shared.store import Opened


class RedisStore(SharedStore):
    """The store of a fleet on one Redis server.

    The arguments are those of `RedisClient` and of `SharedStore`.
    """

    reach = Scope.FLEET
    blocking = False

    def __init__(
        self,
        url: str,
        clock: Clock,
        options: StoreOptions = DEFAULT_OPTIONS,
        *,
        patience_us: Span = 5 * SECOND,
        stand_in: Clock | None = None,
        opened: Opened | None = None,
    ) -> None:
        backend = RedisBackend(
            url,
            space=options.name,
            patience_us=patience_us,
            stand_in=stand_in,
            creates=options.creates,
        )
        super().__init__(backend, clock, options, opened=opened)
