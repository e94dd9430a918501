"""Makes the store that `pulse.config.store` names; imports only the code of that store.

    (unset)                     an SQLite file in the user's state directory, see `sqlite.location`
    memory:                     the memory of this process; lost at its end
    sqlite:///data/pulse.db     a file, relative to the folder of the ini file or the working
                                directory
    sqlite:////srv/app/pulse.db a file with an absolute path
    postgresql://user@host/db   a schema in a database that all hosts share
    redis://host:6379/0         a Redis server that all hosts share; also rediss://, unix:///path

Call `choose_store` in the process that will use the store, after any fork: a server may change its
user after the start, and the user decides which folders are writable.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.errors import (
    BadValueError,
    ConfigError,
    Unshown,
    did_you_mean,
    missing_extra,
    shown_url,
)
from pulse.store.postgres.url import checked_url, is_postgres
from pulse.store.redis.url import checked_url as checked_redis_url
from pulse.store.redis.url import is_redis
from pulse.store.sqlite.location import default_path, existing_path, network_file_system

if TYPE_CHECKING:
    from pulse.clock import Clock
    from pulse.store.base import Store, StoreOptions

EXPECTED = (
    "memory:, sqlite:/// followed by a path, postgresql://user@host/database"
    " or redis:// followed by a host"
)
_SQLITE = "sqlite:///"
_SUFFIXES = (".db", ".sqlite", ".sqlite3")
_KNOWN = ("memory", "sqlite", "postgresql", "redis")
_ALONE = (
    "no folder for the store can be written, so each process now ticks by itself: set"
    " pulse.config.store to sqlite:/// and a path that all workers can write"
)


class ChosenStore(NamedTuple):
    """A store that is not open yet, and a notice for the operator; empty for none."""

    store: Store
    notice: str


def store_url(value: object) -> str:
    """Return the value of `pulse.config.store` unchanged, if it names a store.

    Raises:
        BadValueError: the value names no store; the message suggests a similar value.

    """
    word = value.strip() if isinstance(value, str) else ""
    if is_postgres(word):
        return checked_url(word)
    if is_redis(word):
        return checked_redis_url(word, expected=EXPECTED)
    if word == "memory:" or (word.isprintable() and _is_file(word)):
        return word
    got = shown_url(value) if isinstance(value, str) else Unshown(value)
    raise BadValueError(EXPECTED, got, hint=_hint(word))


def _is_file(word: str) -> bool:
    path = word.removeprefix(_SQLITE)
    return word.startswith(_SQLITE) and path not in {"", "/", ":memory:"} and not path.endswith("/")


def missing_driver(word: str | None) -> str:
    """Return a sentence if the package for a store is not installed; empty if it is."""
    if word is not None and is_postgres(word):
        package, extra = "psycopg", "postgres"
    elif word is not None and is_redis(word):
        package, extra = "redis", "redis"
    else:
        return ""
    if find_spec(package) is not None:
        return ""
    return str(missing_extra("pulse.config.store", package, extra))


def _hint(word: str) -> str:
    scheme = word.partition(":")[0].lower()
    if scheme == "memory" or ":memory:" in word:
        return "; did you mean 'memory:'?"
    if scheme == "sqlite":
        return f"; did you mean {_SQLITE + (shown_url(word)[7:].strip('/') or 'pulse.db')!r}?"
    if word.endswith(_SUFFIXES):
        return f"; did you mean {_SQLITE + shown_url(word)!r}?"
    return did_you_mean(scheme, _KNOWN)


def choose_store(
    word: str | None,
    options: StoreOptions,
    *,
    clock: Clock,
    origin: str,
) -> ChosenStore:
    """Return the store that *word* names; it is not open yet.

    Args:
        word: `pulse.config.store`; None for the default.
        options: the options of the store; a memory store keeps ten times `keep_runs`, of all
            tasks together.
        clock: the clock of the store.
        origin: the ini file, or the working directory.

    Raises:
        ConfigError: *word* names no store.

    """
    known = None if word is None else _known(word)
    if known is not None and (is_postgres(known) or is_redis(known)):
        return _shared(known, clock, options)
    path = default_path(options.name, origin) if known is None else _path_of(known, origin)
    if path is None:
        from pulse.store.memory.store import MemoryStore

        all_tasks = msgspec.structs.replace(options, keep_runs=10 * options.keep_runs)
        return ChosenStore(MemoryStore(clock, all_tasks), _ALONE if word is None else "")
    from pulse.store.sqlite.store import SqliteStore

    return ChosenStore(SqliteStore(path, clock, options), _network_notice(path))


def _shared(word: str, clock: Clock, options: StoreOptions) -> ChosenStore:
    """Return a store on a server that several hosts share."""
    if is_redis(word):
        from pulse.store.redis.store import RedisStore

        return ChosenStore(RedisStore(word, clock, options), "")
    from pulse.store.postgres.gevent_support import LATE_NOTICE, imported_too_early
    from pulse.store.postgres.store import PostgresStore

    postgres = PostgresStore(word, clock, options)
    return ChosenStore(postgres, LATE_NOTICE if imported_too_early() else "")


def find_file(word: str | None, *, name: str | None, origin: str) -> Path | None:
    """Return the SQLite file of these settings if it exists; creates nothing.

    Raises:
        ConfigError: *word* names no store.

    """
    path = existing_path(name, origin) if word is None else _path_of(_known(word), origin)
    return path if path is not None and path.is_file() else None


def _known(word: str) -> str:
    try:
        return store_url(word)
    except BadValueError as error:
        raise ConfigError([f"pulse.config.store: {error}"]) from None


def _path_of(known: str, origin: str) -> Path | None:
    if known == "memory:":
        return None
    start = Path(origin)
    folder = start if start.is_dir() else start.parent
    return folder / Path(known.removeprefix(_SQLITE)).expanduser()


def _network_notice(path: Path) -> str:
    kind = network_file_system(path)
    if not kind:
        return ""
    return (
        f"the store {path} is on a network file system ({kind}), where SQLite's locks do not hold"
        " between hosts: keep it on a local disk"
    )
