"""Times that a schedule in cron form names; it speaks UTC."""

from __future__ import annotations

import datetime

import croniter


def is_valid(cron: str) -> bool:
    """Tell whether this is a schedule in cron form, with five fields."""
    return len(cron.split()) == 5 and bool(croniter.croniter.is_valid(cron))


def previous(cron: str, now: float) -> float:
    """Return the last time, in seconds since 1970, that a schedule named; it speaks UTC."""
    # A moment later, so that a time that is just now counts.
    clock = datetime.datetime.fromtimestamp(now + 0.001, datetime.UTC)
    return float(croniter.croniter(cron, clock).get_prev(float))


def following(cron: str, now: float) -> float:
    """Return the next time, in seconds since 1970, that a schedule names."""
    clock = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return float(croniter.croniter(cron, clock).get_next(float))
