"""Which processes serve requests, and when they begin and end."""
