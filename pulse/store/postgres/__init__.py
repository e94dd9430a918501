"""The store of a fleet: a schema in a PostgreSQL database that all its processes share."""
