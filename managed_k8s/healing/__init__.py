"""Knowing which servers are ill, and what is done about it; docs/healing.md."""
