"""The setting `pulse.config.store` determines the store."""

from __future__ import annotations

import pwd
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pulse.config.loader import load
from pulse.core.policies import StoreFallback
from pulse.errors import BadValueError, ConfigError, MissingExtraError, StoreFolderError
from pulse.store import factory
from pulse.store.base import StoreOptions
from pulse.store.factory import ChosenStore, choose_store, store_url
from pulse.store.memory.store import MemoryStore
from pulse.store.postgres import gevent_support
from pulse.store.postgres.store import PostgresStore
from pulse.store.process_identity import this_member
from pulse.store.redis.store import RedisStore
from pulse.store.sqlite.store import SqliteStore
from pulse.testing.clock import FakeClock
from tests.support.setups import error_of

if TYPE_CHECKING:
    from pathlib import Path


def choose(word: str | None, origin: object = "/srv/app.ini") -> ChosenStore:
    """Return the store of a value of the setting."""
    return choose_store(
        word,
        StoreOptions(name="shop", keep_for_us=1),
        clock=FakeClock(),
        origin=str(origin),
    )


def test_memory_is_a_store_of_this_process() -> None:
    """There is no notice, since the user has chosen the store."""
    chosen = choose("memory:")
    assert isinstance(chosen.store, MemoryStore)
    assert chosen.notice == ""


def test_absolute_path_is_used_unchanged(tmp_path: Path) -> None:
    """Three of the four slashes belong to the URL, one to the path."""
    chosen = choose(f"sqlite:///{tmp_path}/pulse.db")
    assert isinstance(chosen.store, SqliteStore)
    assert (chosen.store.path, chosen.notice) == (tmp_path / "pulse.db", "")


def test_relative_path_starts_at_the_folder_of_the_ini_file(tmp_path: Path) -> None:
    """Every worker finds the same file, whatever its working directory is."""
    (tmp_path / "app.ini").touch()
    store = choose("sqlite:///data/pulse.db", tmp_path / "app.ini").store
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "data" / "pulse.db"


def test_relative_path_without_an_ini_file_starts_at_the_working_directory(tmp_path: Path) -> None:
    """The working directory is the origin."""
    store = choose("sqlite:///pulse.db", tmp_path).store
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "pulse.db"


def test_default_store_is_a_file_of_this_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All workers of the host share the file."""
    monkeypatch.setattr(factory, "default_path", lambda *_: tmp_path / "shop.db")
    store = choose(None).store
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "shop.db"


def choose_without_a_folder(
    monkeypatch: pytest.MonkeyPatch, fallback: StoreFallback
) -> ChosenStore:
    """Return the store where no folder of the default store is usable."""
    monkeypatch.setattr(factory, "default_path", lambda *_: None)
    monkeypatch.setattr(factory, "folder_problems", lambda **_: ["/a is full", "/b is gone"])
    return choose_store(
        None, StoreOptions(), clock=FakeClock(), origin="/srv/app.ini", fallback=fallback
    )


def test_without_a_usable_folder_there_is_no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the reasons and both settings."""
    with pytest.raises(StoreFolderError) as caught:
        choose_without_a_folder(monkeypatch, StoreFallback.REFUSE)
    words = ("(/a is full; /b is gone)", "pulse.config.store to", "pulse.config.store_fallback")
    assert [word for word in words if word not in str(caught.value)] == []


def test_without_a_usable_folder_memory_may_be_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """The notice says what follows, and names the remedy."""
    chosen = choose_without_a_folder(monkeypatch, StoreFallback.MEMORY)
    assert isinstance(chosen.store, MemoryStore)
    assert "each process now ticks by itself (/a is full; /b is gone)" in chosen.notice


def test_relative_path_in_a_release_causes_a_notice(tmp_path: Path) -> None:
    """The file of the next release is another one."""
    folder = tmp_path / "releases" / "7"
    folder.mkdir(parents=True)
    assert "lies in the folder of one release" in choose("sqlite:///pulse.db", folder).notice


def test_shared_folder_of_the_releases_causes_no_notice(tmp_path: Path) -> None:
    """Deployment tools link it into each release."""
    folder = tmp_path / "releases" / "7"
    folder.mkdir(parents=True)
    (tmp_path / "shared").mkdir()
    (folder / "data").symlink_to(tmp_path / "shared")
    assert choose("sqlite:///data/pulse.db", folder).notice == ""


@pytest.mark.parametrize("word", ["sqlite:///~/pulse.db", "sqlite:///~nobody-here/pulse.db"])
def test_home_that_is_unknown_is_a_configuration_error(
    word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user in a container often has none."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])
    with pytest.raises(ConfigError, match=r"pulse\.config\.store: expected a path"):
        choose(word)


def test_file_on_a_network_file_system_causes_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Locks have no effect between hosts there."""
    monkeypatch.setattr(factory, "network_file_system", lambda _: "nfs4")
    assert "network file system (nfs4)" in choose("sqlite:////srv/pulse.db").notice


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("memory", "did you mean 'memory:'?"),
        ("memory://", "did you mean 'memory:'?"),
        ("sqlite:///:memory:", "did you mean 'memory:'?"),
        ("sqlite://pulse.db", "did you mean 'sqlite:///pulse.db'?"),
        ("sqlite:", "did you mean 'sqlite:///pulse.db'?"),
        ("sqlite:///", "did you mean 'sqlite:///pulse.db'?"),
        ("data/pulse.db", "did you mean 'sqlite:///data/pulse.db'?"),
        ("postgresq://h/db", "did you mean 'postgresql'?"),
        ("redis://", "such as 'redis://localhost:6379/0'"),
        ("rediss://h/zero", "such as 'redis://localhost:6379/0'"),
        ("redis://h:port/0", "such as 'redis://localhost:6379/0'"),
        ("unix://", "such as 'unix:///run/redis/redis.sock'"),
        ("rdis://h", "did you mean 'redis'?"),
        ("sqllite:///x", "did you mean 'sqlite'?"),
        (7, "got 7"),
    ],
    ids=str,
)
def test_invalid_value_is_refused_with_a_similar_value(word: object, hint: str) -> None:
    """The error has the expected and the given value."""
    with pytest.raises(BadValueError) as caught:
        store_url(word)
    assert str(caught.value).startswith("expected memory:, sqlite:///")
    assert hint in str(caught.value)


def test_postgresql_url_is_a_store_of_the_fleet() -> None:
    """The name of the store is the URL without the password."""
    store = choose("postgresql://shop:secret@db/shop?sslmode=require").store
    assert isinstance(store, PostgresStore)
    assert store.name == "postgresql://shop:***@db/shop?sslmode=require"


def test_psycopg_imported_before_gevent_causes_a_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such a driver does not yield."""
    monkeypatch.setattr(gevent_support, "imported_too_early", lambda: True)
    assert "psycopg was imported before" in choose("postgres://h/db").notice


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("postgresql://", "got 'postgresql://', which names no database"),
        ("postgresql://h", "which names no database"),
        ("postgresql:h/db", "did you mean 'postgresql://h/db'?"),
        ("Postgres://h/db", "did you mean 'postgresql://h/db'?"),
        ("postgresql://h:port/db", "got 'postgresql://h:***', which has a port that is not a"),
        ("postgresql://a,b:x/db", "which has a port that is not a number"),
        ("postgresql://h/db?sslmod=require", "unknown option 'sslmod'; did you mean 'sslmode'?"),
        (
            "postgresql://u:secret@h/my db",
            "which contains a space",
        ),
        ("postgresql://h/?password=secret", "got 'postgresql://h/?password=***', which names no"),
    ],
)
def test_invalid_postgresql_url_is_refused(word: str, expected: str) -> None:
    """The error names the mistake, and never shows a password."""
    with pytest.raises(BadValueError) as caught:
        store_url(word)
    message = str(caught.value)
    assert message.startswith("expected postgresql://user@host/database, got ")
    assert expected in message
    assert "secret" not in message


@pytest.mark.parametrize(
    "word",
    [
        "postgres://u:p%40@h:5432/db",
        "postgresql:///db",
        "postgresql://a:1,b:2/db?target_session_attrs=read-write",
        "postgresql://[::1]:5432/db",
        "postgresql:///?service=shop",
    ],
)
def test_postgresql_url_is_used_unchanged(word: str) -> None:
    """Several hosts, the folder of a socket, and options are accepted."""
    assert store_url(word) == word


def test_missing_driver_is_an_error_that_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is raised at the start."""
    monkeypatch.setitem(sys.modules, "pulse.store.postgres.driver", None)
    store = choose("postgresql://127.0.0.1:1/db").store
    with pytest.raises(MissingExtraError, match=r"pulse\[postgres\]"):
        store.open(this_member("inline", "digest", 1))


def test_error_names_the_key() -> None:
    """The user can find the key in the ini file."""
    with pytest.raises(ConfigError, match=r"pulse\.config\.store: expected"):
        choose("sqllite:///x")


@pytest.mark.parametrize(
    "word",
    [
        "redis://h",
        "redis://h:6380/3",
        "rediss://user:secret@h/0?ssl_ca_certs=/etc/ca.pem",
        "redis://[::1]:6379",
        "unix:///run/redis.sock?db=1",
    ],
)
def test_redis_url_is_a_store_of_the_fleet(word: str) -> None:
    """No connection is opened, and no package of the extra is imported."""
    chosen = choose(word)
    assert isinstance(chosen.store, RedisStore)
    assert chosen.notice == ""


@pytest.mark.parametrize(
    ("word", "absent"),
    [
        ("memory:", "sqlite.store"),
        ("sqlite:///x", "memory.store"),
        ("sqlite:///x", "redis.store"),
        ("postgresql://h/db", "sqlite.store"),
        ("postgresql://h/db", "psycopg"),
    ],
)
def test_only_the_chosen_store_is_imported(word: str, absent: str) -> None:
    """The other stores cost nothing."""
    program = (
        "import sys; from pulse.clock import SystemClock;"
        " from pulse.store.base import StoreOptions; from pulse.store.factory import choose_store;"
        f" choose_store({word!r}, StoreOptions(), clock=SystemClock(), origin='/');"
        f" print(*[m for m in sys.modules if m.endswith({absent!r})])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.strip() == b""


@pytest.mark.parametrize(
    ("word", "module", "package", "extra"),
    [
        ("redis://127.0.0.1:1", "redis", "redis", "redis"),
        ("postgresql://127.0.0.1:1/db", "pulse.store.postgres.driver", "psycopg", "postgres"),
    ],
    ids=["redis", "postgresql"],
)
def test_missing_driver_is_reported_like_a_missing_gevent(
    word: str, module: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the setting, the package and the command that installs it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError) as caught:
        choose(word).store.open(this_member("inline", "digest", 1))
    message = str(caught.value)
    assert message.startswith("pulse.config.store")
    assert f"expected the package {package}, which is not installed" in message
    assert re.search(rf"pip install '?[^ ]*\[{extra}\]", message)


@pytest.mark.parametrize(
    "word",
    [
        "Redis://host/0",
        "REDIS://host",
        "Rediss://host",
        "Unix:///run/redis.sock",
        "redis://host/0?bogus=1",
        "redis://host?timeout=5",
        "redis://host/0?socket_timeout=soon",
        "redis://host?db=main",
        "redis://host?max_connections=many",
        "redis://host?health_check_interval=often",
        "redis://host?ssl_ca_certs=/etc/ca.pem",
        "rediss://host?ssl_cert_reqs=bogus",
        "unix:///run/redis.sock?bogus=1",
        "unix:///run/redis.sock?db=main",
        "postgresql://host/db?sslmode=bogus",
        "postgresql://host/db?connect_timeout=soon",
        "postgresql://host/db?port=main",
        "postgresql://host:99999/db",
        "postgresql://host/db?target_session_attrs=bogus",
        "postgresql://host/db?channel_binding=bogus",
        "postgresql://host/db?sslmode",
    ],
)
def test_address_that_the_driver_refuses_is_a_configuration_error(word: str) -> None:
    """The error is raised when the configuration is read, not when a worker starts."""
    assert isinstance(error_of(load, None, {"store": word}), ConfigError)


def test_all_options_that_the_driver_refuses_are_reported_together() -> None:
    """The error names them beside the other problems of the configuration."""
    words = {"store": "redis://host/0?bogus=1&socket_timeout=soon", "base_url": "nowhere"}
    message = str(error_of(load, None, words))
    assert [part for part in ("bogus", "socket_timeout", "base_url") if part not in message] == []


@pytest.mark.parametrize(
    "word",
    [
        "redis://host/0?socket_timeout=2",
        "redis://user:secret@host:6380?db=1&max_connections=7",
        "rediss://host?ssl_cert_reqs=required&ssl_ca_certs=/etc/ca.pem",
        "unix:///run/redis.sock?db=1",
        "postgresql://host/db?sslmode=require&connect_timeout=3",
    ],
)
def test_address_with_options_of_the_driver_is_accepted(word: str) -> None:
    """The address is kept as it was given."""
    assert load(None, {"store": word}).store == word
