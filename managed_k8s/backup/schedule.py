"""When something is due, by the clock and by what was done: pure functions of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from managed_k8s.config import cron as cron_times

# Seconds that work which failed once, twice, ... is left alone.
_FIRST_PAUSE, _LONGEST_PAUSE = 60, 900
_INTERRUPTED = "it was interrupted"


@dataclasses.dataclass(frozen=True)
class Attempts:
    """What is on record about work that is done again and again; times are seconds since 1970.

    begun: the last attempt. done: when the last one that went well began. failures: how many failed since. why: the
    last failure in words.
    """

    begun: float | None = None
    done: float | None = None
    failures: int = 0
    why: str = ""

    @classmethod
    def of(cls, kept: Mapping[str, Any] | None) -> Attempts:
        """Return what a store kept."""
        return cls(**kept) if kept else cls()

    def beginning(self, now: float) -> Attempts:
        """Return the record while an attempt is under way: one that is killed counts as failed."""
        return dataclasses.replace(self, begun=now, failures=self.failures + 1, why=_INTERRUPTED)

    def seen(self, busy: bool) -> Attempts:
        """Return the record as it is to be judged; busy: whether an attempt is under way, which did not fail yet."""
        if busy and self.why == _INTERRUPTED:
            return dataclasses.replace(self, failures=self.failures - 1, why="it is being tried again")
        return self

    def succeeded(self) -> Attempts:
        """Return the record after it went well."""
        return Attempts(begun=self.begun, done=self.begun)

    def failed(self, why: str) -> Attempts:
        """Return the record after it failed."""
        return dataclasses.replace(self, why=why)


def is_due(cron: str, attempts: Attempts, now: float) -> bool:
    """Tell whether work is to be done now: nothing went well since the schedule's last time, and no pause is on."""
    if attempts.done is not None and attempts.done >= cron_times.previous(cron, now):
        return False
    if attempts.begun is None or not attempts.failures:
        return True
    return now >= attempts.begun + min(_FIRST_PAUSE << (attempts.failures - 1), _LONGEST_PAUSE)
