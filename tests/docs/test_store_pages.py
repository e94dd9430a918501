"""What the pages of stores say of names and errors is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pulse.clock import SECOND, SystemClock
from pulse.errors import PulseError
from pulse.store.base import StoreOptions
from pulse.store.postgres.schema import schema_of
from pulse.store.postgres.store import PostgresStore
from pulse.store.process_identity import this_member
from pulse.store.redis.backend import prefix_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.postgres import PostgresCluster

DOCS = Path(__file__).parents[2] / "docs"
REDIS = (DOCS / "howto" / "redis.md").read_text()
POSTGRES = (DOCS / "howto" / "postgresql.md").read_text()
PAGES = sorted(DOCS.rglob("*.md"))
SCHEMA = re.compile(r"pulse_(?P<name>[a-z]+)_[0-9a-f]{8}")
KEY = re.compile(r"\{pulse:(?P<name>[a-z0-9_]+)-[0-9a-f]{8}\}:")


def test_the_page_of_redis_shows_a_key() -> None:
    """With the hash tag of an application that has a name."""
    assert KEY.search(REDIS)


def test_a_key_on_the_page_of_redis_is_that_of_the_application() -> None:
    """Whoever looks for the keys of `name = shop` in the server finds them under what is shown."""
    assert [found[0] for found in KEY.finditer(REDIS) if found[0] != prefix_of(found["name"])] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_names_of_storages_on_every_page_are_those_of_the_application(page: Path) -> None:
    """An operator who searches the server for a name of the page finds it."""
    text = page.read_text()
    keys = [found[0] for found in KEY.finditer(text) if found[0] != prefix_of(found["name"])]
    schemas = [found[0] for found in SCHEMA.finditer(text) if found[0] != schema_of(found["name"])]
    assert (keys, schemas) == ([], [])


@pytest.fixture
def guest(postgres_cluster: PostgresCluster) -> Iterator[str]:
    """Return the address of a role that may make no schema."""
    postgres_cluster.forget_applications()
    postgres_cluster.run("CREATE ROLE pulse_guest LOGIN")
    yield postgres_cluster.url().replace(f"{postgres_cluster.user}@", "pulse_guest@")
    postgres_cluster.run("DROP ROLE pulse_guest")


def refusal(url: str) -> str:
    """Return what the error says where the store of `name = shop` cannot be opened."""
    store = PostgresStore(
        url, SystemClock(), StoreOptions(name="shop"), limit_us=5 * SECOND, opened={}
    )
    with pytest.raises(PulseError) as caught:
        store.open(this_member("inline", "digest", 30 * SECOND))
    store.close()
    return str(caught.value)


@pytest.mark.server
def test_a_role_that_may_make_no_schema_is_refused(guest: str) -> None:
    """The error is that of the server."""
    assert "permission denied" in refusal(guest)


@pytest.mark.server
def test_the_error_of_a_role_without_rights_is_as_the_page_of_postgresql_says(guest: str) -> None:
    """The page promises the name of the schema, which an administrator has to make."""
    promised = "the error at start names it" in " ".join(POSTGRES.split())
    assert schema_of("shop") in refusal(guest) or not promised
