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

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from pulse.core.policies import StoreFallback
from pulse.errors import (
    BadValueError,
    ConfigError,
    StoreFolderError,
    Unshown,
    did_you_mean,
    missing_extra,
    shown_url,
)
from pulse.store.folders import network_file_system
from pulse.store.postgres.url import checked_url, is_postgres
from pulse.store.redis.url import checked_url as checked_redis_url
from pulse.store.redis.url import is_redis
from pulse.store.sqlite.location import (
    default_folders,
    default_path,
    existing_path,
    folder_problems,
)
from pulse.store.sqlite.releases import without_release

if TYPE_CHECKING:
    from collections.abc import Collection

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
    "no folder for the default store is usable, so each process now ticks by itself ({problems}):"
    " set pulse.config.store to sqlite:/// and a path that all workers can write"
)
_REFUSED = (
    "pulse.config.store: expected a store, or a folder in which this user can keep the default"
    " store, got none ({problems}); set pulse.config.store to sqlite:/// and a path that all"
    " workers can write, or pulse.config.store_fallback = memory, with which each process ticks by"
    " itself"
)
_NEIGHBOUR = (
    "the default store {path} is new, and {neighbour} holds the same tasks: if both are of one"
    " application, {remedy}; until then each has its own history, pauses and fire times"
)
_SET_NAME = "whose releases have different paths, set pulse.config.name in every release"
_SET_STORE = (
    "whose processes have different home directories, set pulse.config.store to sqlite:/// and one"
    " path"
)
_IN_RELEASE = (
    "the store {path} lies in the folder of one release, so the next release begins with an empty"
    " store: set pulse.config.store to sqlite:/// and an absolute path outside the releases"
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
    from importlib.util import find_spec  # slow to import, and seldom needed

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
    fallback: StoreFallback = StoreFallback.REFUSE,
    tasks: Collection[str] = (),
) -> ChosenStore:
    """Return the store that *word* names; it is not open yet.

    Args:
        word: `pulse.config.store`; None for the default.
        options: the options of the store; a memory store keeps ten times `keep_runs`, of all
            tasks together.
        clock: the clock of the store.
        origin: the ini file, or the working directory.
        fallback: whether the memory of this process may replace the default store.
        tasks: the configured tasks, by which the file of another release is recognised.

    Raises:
        ConfigError: *word* names no store.
        StoreFolderError: no folder for the default store is usable, and *fallback* is `refuse`.

    """
    known = None if word is None else _known(word)
    if known is None:
        return _default(options, clock=clock, origin=origin, fallback=fallback, tasks=tasks)
    if is_redis(known):
        from pulse.store.redis.store import RedisStore

        return ChosenStore(RedisStore(known, clock, options), "")
    if is_postgres(known):
        from pulse.store.postgres.gevent_support import LATE_NOTICE, imported_too_early
        from pulse.store.postgres.store import PostgresStore

        postgres = PostgresStore(known, clock, options)
        return ChosenStore(postgres, LATE_NOTICE if imported_too_early() else "")
    path = _path_of(known, origin)
    if path is None:
        return ChosenStore(_memory(clock, options), "")
    from pulse.store.sqlite.store import SqliteStore

    notices = (_network_notice(path), _release_notice(path))
    return ChosenStore(SqliteStore(path, clock, options), "; ".join(filter(None, notices)))


def _default(
    options: StoreOptions,
    *,
    clock: Clock,
    origin: str,
    fallback: StoreFallback,
    tasks: Collection[str],
) -> ChosenStore:
    path = default_path(options.name, origin)
    if path is None:
        problems = "; ".join(folder_problems(create=True))
        if fallback is StoreFallback.REFUSE:
            raise StoreFolderError(_REFUSED.format(problems=problems))
        return ChosenStore(_memory(clock, options), _ALONE.format(problems=problems))
    from pulse.store.sqlite.store import SqliteStore

    notices = (_network_notice(path), _neighbour_notice(path, tasks, options.name))
    return ChosenStore(SqliteStore(path, clock, options), "; ".join(filter(None, notices)))


def _memory(clock: Clock, options: StoreOptions) -> Store:
    from pulse.store.memory.store import MemoryStore

    return MemoryStore(clock, msgspec.structs.replace(options, keep_runs=10 * options.keep_runs))


def _neighbour_notice(path: Path, tasks: Collection[str], name: str) -> str:
    from pulse.store.sqlite.neighbours import find_neighbour

    neighbour = find_neighbour(path, tasks, folders=default_folders(), name=name)
    if neighbour is None:
        return ""
    remedy = _SET_STORE if neighbour.name == path.name else _SET_NAME
    return _NEIGHBOUR.format(path=path, neighbour=neighbour, remedy=remedy)


def default_store_problem() -> str:
    """Return why this user has no folder for the default store; empty if there is one.

    Nothing is created.
    """
    problems = folder_problems(create=False)
    return _REFUSED.format(problems="; ".join(problems)) if problems else ""


def find_file(word: str | None, *, name: str | None, origin: str) -> Path | None:
    """Return the SQLite file of these settings if it exists; creates nothing.

    Raises:
        ConfigError: *word* names no store.

    """
    path = existing_path(name, origin) if word is None else _path_of(_known(word), origin)
    return path if path is not None and path.is_file() else None


def uses_file(word: str | None) -> bool:
    """Return whether the setting `store`, as loaded, stands for an SQLite file."""
    return word is None or word.startswith(_SQLITE)


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
    path = Path(known.removeprefix(_SQLITE))
    try:
        return folder / path.expanduser()
    except RuntimeError:  # the user has no home directory, or there is no such user
        raise ConfigError(
            [f"pulse.config.store: expected a path whose first part is a known home, got {known!r}"]
        ) from None


def _release_notice(path: Path) -> str:
    real = Path(os.path.realpath(path))
    return "" if without_release(real) == real else _IN_RELEASE.format(path=path)


def _network_notice(path: Path) -> str:
    kind = network_file_system(path)
    if not kind:
        return ""
    return (
        f"the store {path} is on a network file system ({kind}), where SQLite's locks do not hold"
        " between hosts: keep it on a local disk"
    )
