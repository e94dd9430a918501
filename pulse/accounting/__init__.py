"""Accounts for each fire time of a task from what is on record, without the planner."""
