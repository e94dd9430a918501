"""The manifests of configs in the database: see `pulse.store.configs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.configs import standing_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pulse.store.base import Member
    from pulse.store.configs import Config, Standing
    from pulse.store.sql.link import Link

_ADD = "INSERT INTO @configs (config, manifest) VALUES (?, ?) ON CONFLICT (config) DO NOTHING"
_READ = "SELECT born, manifest FROM @configs WHERE config = ?"
_PRUNE = (
    "DELETE FROM @configs WHERE config NOT IN (SELECT config FROM @members)"
    " AND born NOT IN (SELECT born FROM @configs ORDER BY born DESC LIMIT 32)"
)


def add_config(link: Link, config: Config) -> None:
    """Make the manifest known; one that is known already keeps its number."""
    if link.run(_ADD, (config.key, config.manifest)).rowcount:
        link.run(_PRUNE)


def read_standing(link: Link, live: Iterable[tuple[str, Member]]) -> Standing:
    """Return what stands while the processes *live*, each with its config, are alive."""
    hosts_of: dict[str, set[str]] = {}
    for key, member in live:
        hosts_of.setdefault(key, set()).add(member.host)
    return standing_of(
        (born, manifest, hosts)
        for key, hosts in hosts_of.items()
        for born, manifest in link.run(_READ, (key,))
    )
