"""Which definition of a task stands, when live processes hold different ones.

Each set of config tasks is written once, as a manifest with a number that rises. The definition
of a task that stands is the one in the newest manifest that some live process holds. So a rolling
deploy moves forward, an old worker that is recycled puts nothing back, and a roll-back is taken
over as soon as no live process holds the newer manifest: all of it follows from who lives.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from pulse.policy import Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pulse.store.base import Member
    from pulse.store.sql.link import Link
    from pulse.task import Definition

    Manifest = list[tuple[str, str, str]]

_ADD = "INSERT INTO @configs (config, manifest) VALUES (?, ?) ON CONFLICT (config) DO NOTHING"
_READ = "SELECT born, manifest FROM @configs WHERE config = ?"
_PRUNE = (
    "DELETE FROM @configs WHERE config NOT IN (SELECT config FROM @members)"
    " AND born NOT IN (SELECT born FROM @configs ORDER BY born DESC LIMIT 32)"
)
_MANIFEST = msgspec.json.Decoder(list[tuple[str, str, str]])


class Config(msgspec.Struct, frozen=True):
    """The tasks of one process: name, digest and scope of each, and what they are known by."""

    key: str
    manifest: bytes


class Standing(msgspec.Struct, frozen=True):
    """The digests that stand: of fleet tasks by name, of host tasks by host and name."""

    fleet: dict[str, str]
    hosts: dict[str, dict[str, str]]

    def of(self, task: str, scope: str, place: str) -> str | None:
        """Return the digest that stands, or None when no live process wants the row.

        Rows of a process belong to it alone, and go with it: they are not judged here.
        """
        if scope == Scope.FLEET.value:
            return self.fleet.get(task)
        return self.hosts.get(place, {}).get(task)


UNKNOWN = Config("", b"")
"""The config of a process that has not said yet what it holds: it wants nothing."""


def config_of(definitions: Mapping[str, Definition]) -> Config:
    """Return the config of a process that holds *definitions*."""
    rows = sorted((name, one.digest, one.scope.value) for name, one in definitions.items())
    manifest = msgspec.json.encode(rows)
    return Config(hashlib.blake2b(manifest, digest_size=16).hexdigest(), manifest)


def add_config(link: Link, config: Config) -> None:
    """Make the manifest known; one that is known already keeps its number."""
    if link.run(_ADD, (config.key, config.manifest)).rowcount:
        link.run(_PRUNE)


def read_standing(link: Link, live: Iterable[tuple[str, Member]]) -> Standing:
    """Return what stands while the processes *live*, each with its config, are alive."""
    hosts_of: dict[str, set[str]] = {}
    for key, member in live:
        hosts_of.setdefault(key, set()).add(member.host)
    standing = Standing({}, {})
    known = [
        (born, manifest, hosts)
        for key, hosts in hosts_of.items()
        for born, manifest in link.run(_READ, (key,))
    ]
    for _, manifest, hosts in sorted(known):
        _lay_over(standing, _MANIFEST.decode(manifest), hosts)
    return standing


def _lay_over(standing: Standing, manifest: Manifest, hosts: Iterable[str]) -> None:
    standing.fleet.update(
        (name, digest) for name, digest, scope in manifest if scope == Scope.FLEET.value
    )
    local = {name: digest for name, digest, scope in manifest if scope == Scope.HOST.value}
    for host in hosts:
        standing.hosts.setdefault(host, {}).update(local)
