"""pulse requests the application's own URLs on schedule, once across all workers."""
