"""Tasks, runs and the rules that decide on them: pure, without clock and without I/O."""
