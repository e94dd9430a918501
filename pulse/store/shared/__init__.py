"""Rules of the stores that several processes share; no storage access."""
