"""What is wrong with a cluster's backups: a pure function of what is on record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from managed_k8s.backup import schedule
from managed_k8s.backup.record import Record
from managed_k8s.backup.schedule import Attempts

# Seconds after a scheduled time before a backup counts as missed: it is made by the next sweep, and takes a while.
GRACE = 600


def problems(
    settings: Mapping[str, Any], records: Sequence[Record], backups: Attempts, drills: Attempts, now: float
) -> list[str]:
    """Return a sentence for everything that is wrong; nothing when the cluster could be restored as promised.

    settings: `backup` of the cluster's. records: newest first. now: seconds since 1970.
    """
    return [
        *_newest(settings, records, now),
        *_attempts(settings, backups, now),
        *_drills(settings, records, drills, now),
        *(f"{one.name} is not good: {one.problem}" for one in records if one.problem),
    ]


def _newest(settings: Mapping[str, Any], records: Sequence[Record], now: float) -> list[str]:
    good = next((one for one in records if one.good), None)
    if good is None:
        return ["there is no good backup; take one: salt-run managed_k8s.backup"]
    minutes = (now - good.time) / 60
    if minutes > settings["max_age_minutes"]:
        return [
            f"the newest good backup, {good.name}, is {minutes:.0f} minutes old; backup.max_age_minutes allows "
            f"{settings['max_age_minutes']}"
        ]
    return []


def _attempts(settings: Mapping[str, Any], backups: Attempts, now: float) -> list[str]:
    if backups.failures:
        return [f"the last backup failed, {backups.failures} times in a row now: {backups.why}"]
    due = schedule.previous(settings["schedule"], now - GRACE)
    if backups.done is not None and backups.done < due:
        return [f"the backup of {_clock(due)} was missed: is the Salt master's schedule running?"]
    return []


def _drills(settings: Mapping[str, Any], records: Sequence[Record], drills: Attempts, now: float) -> list[str]:
    if drills.failures:
        return [f"the last restore drill failed: {drills.why}"]
    due = schedule.previous(settings["drill_schedule"], now - GRACE)
    since = drills.done if drills.done is not None else min((one.time for one in records), default=now)
    if since < due:
        return [f"the restore drill of {_clock(due)} was missed: is the Salt master's schedule running?"]
    return []


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
