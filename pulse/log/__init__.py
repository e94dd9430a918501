"""Writes events to the logger pulse."""
