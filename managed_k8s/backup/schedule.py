"""When something is due, by the clock and by what was done: pure functions of both."""

from __future__ import annotations

from managed_k8s.config import cron as cron_times
from managed_k8s.state.attempts import Attempts

# Seconds that work which failed once, twice, ... is left alone.
_FIRST_PAUSE, _LONGEST_PAUSE = 60, 900


def is_due(cron: str, attempts: Attempts, now: float) -> bool:
    """Tell whether work is to be done now: nothing went well since the schedule's last time, and no pause is on."""
    if attempts.done is not None and attempts.done >= cron_times.previous(cron, now):
        return False
    if attempts.begun is None or not attempts.failures:
        return True
    return now >= attempts.begun + min(_FIRST_PAUSE << (attempts.failures - 1), _LONGEST_PAUSE)
