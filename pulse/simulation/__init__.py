"""Forecasts of schedules: pure functions that compute a forecast from task definitions."""
