"""Loads the settings from ini files and keywords."""
