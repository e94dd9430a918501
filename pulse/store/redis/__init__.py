"""The store of a fleet that has a Redis server."""
