"""Bringing a cluster back: what is to be done about what is lost, and doing it."""
