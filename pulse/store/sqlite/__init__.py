"""The store of one host: an SQLite file that all its processes share."""

from pulse.store.sqlite.keeper import SqliteStore

__all__ = ["SqliteStore"]
