"""The memory store: for one process, and the reference of the differential tests."""
