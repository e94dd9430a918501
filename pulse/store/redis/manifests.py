"""What the configs of a fleet leave on the server: their digests, and what is forgotten in time."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.store.redis.client import ServerCall

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.core.task import TaskDefinition
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.members import RedisFleet
    from pulse.store.shared.manifests import Manifest

MOST_CONFIGS = 32
"""How many configs are kept that no process holds any more."""

_CHUNK = 1_000
_ABOUT = "digests by task; a value as long as this one makes the hash one that is not searched"
_DONE = msgspec.msgpack.Decoder(bool)


class _PruneRequest(ServerCall, kw_only=True):
    before: Instant
    configs: Sequence[str]


def keep_digests(server: RedisClient, config: Manifest, held: Mapping[str, TaskDefinition]) -> None:
    """Make the digests of a config known to the scripts, which ask for each row that is due."""
    key = server.key(f"config:{config.key}")
    if not held or server.command("HLEN", key) == len(held) + 1:
        return
    words = [word for name, one in held.items() for word in (name, one.digest)]
    words += ["", _ABOUT]
    for start in range(0, len(words), 2 * _CHUNK):
        server.command("HSET", key, *words[start : start + 2 * _CHUNK])


def prune(server: RedisClient, fleet: RedisFleet, *, keep_for_us: Span) -> None:
    """Forget configs that nobody holds, and what is older than is kept."""
    held = {one.config for one in fleet.seen}
    born = sorted((number, key) for key, (number, _) in fleet.configs.items())
    unused = [key for _, key in born[:-MOST_CONFIGS] if key not in held]
    server.run("prune", _PruneRequest(before=fleet.now - keep_for_us, configs=unused), _DONE)
