"""Stores the digests of a manifest for the scripts, and prunes old data."""

from __future__ import annotations

from collections.abc import Sequence  # noqa: TC003 - msgspec reads the hints of its structs
from typing import TYPE_CHECKING

import msgspec

from pulse.clock import Instant, Span  # noqa: TC001 - msgspec reads the hints of its structs
from pulse.store.redis.client import ScriptRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pulse.core.task import TaskDefinition
    from pulse.store.redis.client import RedisClient
    from pulse.store.redis.members import RedisFleet
    from pulse.store.shared.manifests import Manifest

MAX_UNUSED_MANIFESTS = 32
"""How many of the newest manifests are kept although no process declares them any more."""

_CHUNK = 1_000
_FILLER = "digests by task; so long a value makes Redis use a hash table, see heartbeat.lua"
_DONE = msgspec.msgpack.Decoder(bool)


class _PruneRequest(ScriptRequest, kw_only=True):
    before: Instant
    manifests: Sequence[str]


def save_digests(
    server: RedisClient, manifest: Manifest, definitions: Mapping[str, TaskDefinition]
) -> None:
    """Store the digests of a manifest, which `read_due.lua` compares with each due row."""
    key = server.key(f"config:{manifest.key}")
    if not definitions or server.command("HLEN", key) == len(definitions) + 1:
        return
    pairs = [text for name, one in definitions.items() for text in (name, one.digest)]
    pairs += ["", _FILLER]
    for start in range(0, len(pairs), 2 * _CHUNK):
        server.command("HSET", key, *pairs[start : start + 2 * _CHUNK])


def prune(server: RedisClient, fleet: RedisFleet, *, keep_for_us: Span) -> None:
    """Delete manifests that no process declares, and what is older than *keep_for_us*."""
    declared = {row.manifest for row in fleet.seen}
    numbered = sorted((number, key) for key, (number, _) in fleet.manifests.items())
    unused = [key for _, key in numbered[:-MAX_UNUSED_MANIFESTS] if key not in declared]
    server.run("prune", _PruneRequest(before=fleet.now - keep_for_us, manifests=unused), _DONE)
