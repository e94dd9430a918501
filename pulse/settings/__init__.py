"""How a setting is described, converted and written back as text."""
