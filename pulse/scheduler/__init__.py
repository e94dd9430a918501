"""The loop of one process, and the parts that only the loop uses."""
