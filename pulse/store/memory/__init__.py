"""The memory store: one process, and the oracle of the differential tests."""
