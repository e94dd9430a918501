"""Converts the schedules of crontabs, Celery beat and APScheduler to settings of pulse."""
