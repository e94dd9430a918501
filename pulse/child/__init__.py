"""Processes without a scheduler: the child of mode processing, and clients of the store."""
