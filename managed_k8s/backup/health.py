"""What is wrong with a cluster's backups: a pure function of what is on record."""

from __future__ import annotations

import time
from collections.abc import Sequence

from managed_k8s.backup.record import Record
from managed_k8s.backup.retention import Backup
from managed_k8s.config import cron, sections
from managed_k8s.state.attempts import Attempts

# Seconds after a scheduled time before a backup counts as missed: it is made by the next sweep, and takes a while.
GRACE = 600

Scheduled = sections.Backup | sections.VolumeBackup


def problems(
    settings: sections.Backup, records: Sequence[Record], backups: Attempts, drills: Attempts, now: float
) -> list[str]:
    """Return a sentence for everything that is wrong; nothing when the cluster could be restored as promised.

    settings: `backup` of the cluster's. records: newest first. now: seconds since 1970.
    """
    return [
        *newest(settings, records, now, "backup", "there is no good backup; take one: salt-run managed_k8s.backup"),
        *attempts(settings, backups, now, "backup"),
        *_drills(settings, records, drills, now),
        *(f"{one.name} is not good: {one.problem}" for one in records if one.problem),
    ]


def newest(settings: Scheduled, records: Sequence[Backup], now: float, path: str, none: str) -> list[str]:
    """Return what is wrong with the age of the newest good one.

    settings: those at `path`. none: the sentence for when there is no good one.
    """
    good = next((one for one in records if one.good), None)
    if good is None:
        return [none]
    minutes = (now - good.time) / 60
    if minutes > settings.max_age_minutes:
        return [
            f"the newest good backup, {good.name}, is {minutes:.0f} minutes old; {path}.max_age_minutes allows "
            f"{settings.max_age_minutes}"
        ]
    return []


def attempts(settings: Scheduled, made: Attempts, now: float, what: str) -> list[str]:
    """Return what is wrong with how often they are made; what: a word for one of them."""
    if made.failures:
        return [f"the last {what} failed, {made.failures} times in a row now: {made.why}"]
    due = cron.previous(settings.schedule, now - GRACE)
    if made.done is not None and made.done < due:
        return [f"the {what} of {_clock(due)} was missed: is the Salt master's schedule running?"]
    return []


def _drills(settings: sections.Backup, records: Sequence[Record], drills: Attempts, now: float) -> list[str]:
    if drills.failures:
        return [f"the last restore drill failed: {drills.why}"]
    due = cron.previous(settings.drill_schedule, now - GRACE)
    since = drills.done if drills.done is not None else min((one.time for one in records), default=now)
    if since < due:
        return [f"the restore drill of {_clock(due)} was missed: is the Salt master's schedule running?"]
    return []


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
