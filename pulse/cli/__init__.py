"""The command line: one module for each command, and one module for output."""
