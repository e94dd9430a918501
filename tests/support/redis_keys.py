"""The keys of one application in a Redis server, which a test loses or overwrites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pulse.store.redis.backend import prefix_of
from tests.support.setups import require
from tests.support.stepped import redis_at

if TYPE_CHECKING:
    from tests.support.redis_servers import RedisServer


class Keys:
    """The keys of one application in a Redis server."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self.make = redis_at(server.url)

    def lose(self, what: str) -> None:
        """Delete one key, or all keys."""
        done = self._server.ask("FLUSHALL" if what == "all keys" else "DEL", *self._named(what))
        require(done in {b"+OK\r\n", b":1\r\n"}, f"something to delete, got {done!r}")

    def overwrite(self, key: str, field: str = "") -> str:
        """Overwrite a key, or one field of it, with a text; return the full name of the key."""
        (name,) = self._named(key)
        words = ("HSET", name, field, "garbage") if field else ("SET", name, "garbage")
        done = self._server.ask(*words)
        require(done in {b"+OK\r\n", b":0\r\n"}, f"something to overwrite, got {done!r}")
        return name

    def lose_field(self, key: str, field: str) -> None:
        """Delete one field of a key."""
        done = self._server.ask("HDEL", *self._named(key), field)
        require(done == b":1\r\n", f"a field to delete, got {done!r}")

    def set_field(self, key: str, field: str, value: str) -> None:
        """Set a field of a hash, which need not exist."""
        self._server.ask("HSET", prefix_of("") + key, field, value)

    def field(self, key: str) -> str:
        """Return the name of the only field of a hash."""
        (name,) = self._named(key)
        fields = self._server.ask("HKEYS", name).decode().split("\r\n")[2::2]
        require(len(fields) == 1, f"one field of {key}, got {fields}")
        return fields[0]

    def members(self, key: str) -> list[str]:
        """Return the members of a sorted set."""
        return self._server.ask("ZRANGE", *self._named(key), "0", "-1").decode().split("\r\n")[2::2]

    def add_member(self, key: str, member: str) -> None:
        """Add a member with score 1 to a sorted set, which need not exist."""
        self._server.ask("ZADD", prefix_of("") + key, "1", member)

    def lacks(self, key: str) -> bool:
        """Return whether a key does not exist."""
        return self._server.ask("EXISTS", prefix_of("") + key) == b":0\r\n"

    def _named(self, key: str) -> list[str]:
        if key == "all keys":
            return []
        found = self._server.ask("KEYS", prefix_of("") + key).decode().split("\r\n")[2::2]
        require(len(found) == 1, f"one key {key}, got {found}")
        return found
