"""When a task is due: pure rules from instants to instants."""
