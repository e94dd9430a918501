"""What the stores that speak SQL share: their rows, their statements, and their keeper."""
