"""What is known of a volume's backup: kept with it, as the Cinder backup's metadata, so that Cinder alone tells all."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from managed_k8s.volumes.claims import Claim

PREFIX = "volume-"
# A Cinder backup has these only once it is complete: what lacks them is no backup.
_KEY = "managed-k8s/"
MARK = f"{_KEY}time"
# Cinder's own words for a backup that can be restored, now or as soon as another restore of it ends.
_USABLE = ("available", "restoring")
_GONE = ("deleting", "deleted")


@dataclasses.dataclass(frozen=True)
class Record:
    """A backup of one claim's volume.

    id: Cinder's. time: when it was begun, in seconds since 1970. claim: what was backed up. size: in GiB, of the volume
    then. reason: why. problem: what is wrong with it.
    """

    id: str
    time: float
    claim: Claim
    size: int
    reason: str
    problem: str = ""

    @property
    def name(self) -> str:
        """What it is called; those of one run have the same name."""
        return name(self.time)

    @property
    def good(self) -> bool:
        """Whether it can be restored."""
        return not self.problem

    @property
    def proven(self) -> bool:
        """Whether it was restored once: nobody tries volumes, as nobody here knows what is in them."""
        return False


def name(time: float) -> str:
    """Return what a backup that was begun then is called."""
    return PREFIX + datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def metadata(claim: Claim, time: float, reason: str) -> dict[str, str]:
    """Return what marks a Cinder backup as complete and ours; Cinder takes texts of up to 255 characters."""
    told = {"time": f"{time:.0f}", "reason": reason[:200], **claim.texts()}
    return {_KEY + key: value for key, value in told.items() if value}


def read(backup: Any) -> Record | None:
    """Return the record of a Cinder backup, or None when it is none of ours or not complete."""
    kept: Mapping[str, str] = backup.metadata or {}
    if MARK not in kept or backup.status in _GONE:
        return None
    told = {key.removeprefix(_KEY): value for key, value in kept.items() if key.startswith(_KEY)}
    try:
        time, claim = float(told["time"]), Claim.of_texts(told)
    except (KeyError, ValueError):
        return None
    problem = "" if backup.status in _USABLE else f"Cinder says {backup.status}: {backup.fail_reason or 'no reason'}"
    return Record(backup.id, time, claim, int(backup.size or 0), told.get("reason", ""), problem)


def newest_first(backups: Any) -> list[Record]:
    """Return the records of those Cinder backups that are complete and ours."""
    found = [one for backup in backups if (one := read(backup))]
    return sorted(found, key=lambda one: (-one.time, one.claim.path))
