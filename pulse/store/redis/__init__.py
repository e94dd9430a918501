"""The store of a fleet that has a Redis server."""

from pulse.store.redis.keeper import RedisStore

__all__ = ["RedisStore"]
