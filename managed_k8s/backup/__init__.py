"""Backups of a cluster: when, from where, into which repository, how many, and whether they are good."""
