"""Ini files and keywords into settings."""
