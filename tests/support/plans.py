"""What holds for every plan."""


def assert_in_order(steps):
    """Fail unless every step is there once, after all that it needs."""
    seen: set[str] = set()
    for step in steps:
        assert set(step.needs) <= seen, "needs come first, so there is no circle"
        assert step.id not in seen
        seen.add(step.id)
