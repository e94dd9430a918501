"""Carriers: how a run that is handed over gets to the workers of a queue."""
