"""The loop: it observes, plans, starts what may start, notes what ended, until nothing is left that it can do."""
