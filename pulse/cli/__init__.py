"""The command line: one module a command, thin ones that find out, and one that shows."""
