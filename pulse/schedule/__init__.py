"""Schedules: pure rules that return the fire times of a task."""
