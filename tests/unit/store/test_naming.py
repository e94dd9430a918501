"""Names that all stores make by the same rules."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pulse.errors import StoreSchemaError, shown_url
from pulse.store.naming import refuse_other_version
from pulse.store.postgres.schema import schema_of
from pulse.store.redis.backend import prefix_of as key_prefix_of
from pulse.store.sqlite.location import file_name
from pulse.store.sqlite.schema import prefix_of as table_prefix_of

APPLICATIONS = {
    "": "app_1271cf25",
    "shop": "shop_c67504ea",
    "Shop": "shop_27a8f5e7",
    "My Shop!": "my_shop_0ed39b66",
    "---": "app_2aa05671",
    "Café №1": "caf_1_254605d5",
    "İstanbul": "i_stanbul_16d5ddfb",
    "\N{KELVIN SIGN}elvin": "kelvin_cf8e9f5f",
    "日本": "app_ce47dfba",
    "a" * 60: "aaaaaaaaaaaaaaaaaaaaaaaa_a051c54c",
    "a_b-c.d": "a_b_c_d_902f9577",
    "x" * 23 + "-y": "xxxxxxxxxxxxxxxxxxxxxxx__bdaae728",
}
"""Names of applications, and the ids that release 1.0.0.dev0 has stored data under."""

FILES_OF_NAMES = {
    "shop": "shop-bd67c323.db",
    "My Shop!": "my-shop-ebce7544.db",
    "---": "pulse-2885de30.db",
    "İstanbul": "stanbul-8e12b106.db",
    "日本": "pulse-3436b47c.db",
    "a" * 60: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-84076f04.db",
}
FILES_OF_ORIGINS = {
    "/nowhere/shop.ini": "nowhere-shop-8862c86f.db",
    "/nowhere/My Shop/prod.v2.ini": "my-shop-prod-v2-344a1766.db",
    "/nowhere": "nowhere-76800106.db",
    "/nowhere/\udcff/app.ini": "app-289dfe86.db",
    "/nowhere/.ini": "nowhere-ini-79e165b3.db",
}


@pytest.mark.parametrize(("name", "identity"), APPLICATIONS.items())
def test_stored_names_of_an_application_do_not_change(name: str, identity: str) -> None:
    """Schemas, tables and keys of earlier releases are found."""
    slug, _, digest = identity.rpartition("_")
    assert table_prefix_of(name) == f"pulse_{identity}_"
    assert schema_of(name) == f"pulse_{identity}"
    assert key_prefix_of(name) == f"{{pulse:{slug}-{digest}}}:"


@pytest.mark.parametrize(("name", "file"), FILES_OF_NAMES.items())
def test_default_file_of_a_name_does_not_change(name: str, file: str) -> None:
    """The file of earlier releases is found."""
    assert file_name(name, "/") == file


@pytest.mark.parametrize(("origin", "file"), FILES_OF_ORIGINS.items())
def test_default_file_of_an_origin_does_not_change(origin: str, file: str) -> None:
    """The file of earlier releases is found."""
    assert file_name(None, origin) == file


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://user:s3cret@db:6379/0", "redis://user:***@db:6379/0"),
        ("redis://:s3cret@h", "redis://:***@h"),
        ("unix://u:s3cret@/run/r.sock?db=1", "unix://u:***@/run/r.sock?db=1"),
        ("redis://h/0?db=1&password=s3cret", "redis://h/0?db=1&password=***"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://a:1,b:2/d", "postgresql://a:1,b:2/d"),
        ("postgresql://u:x@a:1,b:2/d", "postgresql://u:***@a:1,b:2/d"),
        ("redis://[::1]:6379/0", "redis://[::1]:6379/0"),
        ("sqlite:////srv/a:b/pulse.db", "sqlite:////srv/a:b/pulse.db"),
        ("postgresql://u:s3/cr@et@h/d", "postgresql://u:***@h/d"),
        (
            "postgresql://h/d?sslpassword=x&sslmode=require",
            "postgresql://h/d?sslpassword=***&sslmode=require",
        ),
        ("postgresql://h/d?pass%77ord=x", "postgresql://h/d?pass%77ord=***"),
    ],
)
def test_shown_url_replaces_passwords_only(url: str, shown: str) -> None:
    """A URL without a password is shown unchanged."""
    assert shown_url(url) == shown


LETTERS = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)


@example(before="", user="A", mark=":", password="/", host="host")  # noqa: S106 - no password
@example(before="", user="a", mark=":", password="/b", host="")  # noqa: S106 - no password
@given(
    before=st.sampled_from(
        ["redis://", "rediss:", "postgresql:/", "//", "", "unix://", "http://", "x+y://", " "]
    ),
    user=LETTERS,
    mark=st.sampled_from([":", "%3A", "%3a"]),
    password=st.lists(st.one_of(LETTERS, st.sampled_from(list("/?#&=:@%[]*; "))), max_size=8).map(
        "".join
    ),
    host=st.sampled_from(["host", "host:6379/0", "[::1]", "h/d?db=1", ""]),
)
def test_shown_url_hides_a_password_of_any_characters(
    before: str, user: str, mark: str, password: str, host: str
) -> None:
    """Nothing of what stands between the user and the last `@` is shown."""
    # A user with a password that begins with two slashes is the URL of an unknown scheme.
    assume(before.strip() or mark != ":" or not password.startswith("//"))
    assert shown_url(f"{before}{user}{mark}{password}@{host}") == f"{before}{user}{mark}***@{host}"


@given(
    before=st.sampled_from(["redis://h/0?", "postgresql:///?port=1&", "host=h ", "", "h?user=b;"]),
    name=st.sampled_from(
        ["password", "PASSWORD", "ssl_password", "passwd", "pwd", "pass%77ord", "api_key", "token"]
    ),
    equals=st.sampled_from(["=", "%3D", "%3d", " = "]),
    after=st.sampled_from(["", "&db=1", " dbname=d"]),
)
def test_shown_url_hides_an_option_with_a_secret_name(
    before: str, name: str, equals: str, after: str
) -> None:
    """The rest is shown."""
    assert shown_url(f"{before}{name}{equals}s3cret{after}") == f"{before}{name}{equals}***{after}"


@pytest.mark.parametrize(
    "url", ["redis://u:s3cret", "redis://u:s3cret/0", "//:s3cret", "postgresql://h,u:s3cret/db"]
)
def test_shown_url_hides_a_port_that_may_be_a_password(url: str) -> None:
    """The `@` was forgotten."""
    assert "s3cret" not in shown_url(url)


@given(st.text(max_size=40))
def test_shown_url_accepts_any_text_and_is_idempotent(text: str) -> None:
    """What is shown once may be part of another error."""
    once = shown_url(text)
    assert shown_url(once) == once


@pytest.mark.parametrize("version", [3, 2])
def test_current_and_migrated_layouts_are_accepted(version: int) -> None:
    """No error is raised."""
    refuse_other_version("db", version, current=3, migrated=(None, 2))


@pytest.mark.parametrize(("version", "age"), [(4, "a newer"), (1, "an older"), (None, "an older")])
def test_other_layout_is_refused_with_its_age(version: int | None, age: str) -> None:
    """The error says which release wrote the layout, and the remedy."""
    expected = f"^db: expected layout version 3, got {version}, which {age} release of pulse wrote"
    with pytest.raises(StoreSchemaError, match=expected) as caught:
        refuse_other_version("db", version, current=3)
    assert str(caught.value).endswith("or give each its own pulse.config.name")
