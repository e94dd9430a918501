"""Where processes coordinate and history is kept."""
