"""The dashboard: pages about tasks, runs and processes, made by the server."""
