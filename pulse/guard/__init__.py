"""Keeps outsiders off the scheduled paths and off marked views."""
