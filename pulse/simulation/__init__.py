"""What a schedule will do, worked out without running it: pure, from tasks to a forecast."""
