"""Which backups stay: borg's words, borg's meaning, and never without the newest good and the newest proven one.

Not `borg prune` itself: it does not know which archives are good, and volume snapshots are kept by the same words. That
both mean the same is tested against it.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Protocol

# Two backups in the same period count once; `last` takes each.
_PERIODS = {"last": "", "hourly": "%Y-%m-%d %H", "daily": "%Y-%m-%d", "weekly": "%G-%V", "monthly": "%Y-%m"}


class Backup(Protocol):
    """What is kept or not."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def time(self) -> float:
        """When it was made, in seconds since 1970."""

    @property
    def good(self) -> bool:
        """Whether nothing is known against it."""

    @property
    def proven(self) -> bool:
        """Whether it was restored once."""


def keep(backups: Sequence[Backup], policy: Mapping[str, int]) -> dict[str, str]:
    """Return name -> the rule that keeps it, of all that stay.

    policy: rule (last, hourly, daily, weekly, monthly) -> how many. A rule takes the newest of each period and passes
    over what an earlier rule keeps already; one that finds fewer than it may keep takes the oldest too, so that a
    repository grows into its policy. Periods are those of UTC.
    """
    newest_first = sorted(backups, key=lambda backup: (backup.time, backup.name), reverse=True)
    kept: dict[str, str] = {}
    for rule, pattern in _PERIODS.items():
        kept |= dict.fromkeys(_by_rule(newest_first, pattern, policy.get(rule, 0), kept), rule)
    # The newest good one may turn out not to be; the newest proven one is what is left then.
    good = [backup for backup in newest_first if backup.good]
    for reason, found in (("newest good", good), ("newest proven", [backup for backup in good if backup.proven])):
        if found:
            kept.setdefault(found[0].name, reason)
    return kept


def _by_rule(newest_first: Sequence[Backup], pattern: str, count: int, kept: Mapping[str, str]) -> list[str]:
    chosen: list[str] = []
    before = None
    for backup in newest_first:
        if len(chosen) == count:
            return chosen
        period = _clock(backup.time).strftime(pattern) if pattern else backup.name
        if period != before and backup.name not in kept:
            chosen.append(backup.name)
        before = period
    if newest_first and len(chosen) < count and (oldest := newest_first[-1].name) not in {*kept, *chosen}:
        chosen.append(oldest)
    return chosen


def _clock(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)
