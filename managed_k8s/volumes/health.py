"""What is wrong with the backups of a cluster's volumes: a pure function of what is on record."""

from __future__ import annotations

from collections.abc import Sequence

from managed_k8s.backup import health
from managed_k8s.config.sections import VolumeBackup
from managed_k8s.state.attempts import Attempts
from managed_k8s.volumes.record import Record

_PATH = "backup.volumes"


def problems(
    settings: VolumeBackup, claims: Sequence[str], records: Sequence[Record], attempts: Attempts, now: float
) -> list[str]:
    """Return a sentence for everything that is wrong; nothing when every claim could be restored as promised.

    settings: `backup.volumes`. claims: namespace/name of each that is to be backed up. records: newest first. now:
    seconds since 1970.
    """
    wrong = health.attempts(settings, attempts, now, "backup of volumes")
    for claim in claims:
        own = [one for one in records if one.claim.path == claim]
        wrong += [f"{claim}: {words}" for words in health.newest(settings, own, now, _PATH, "there is no good backup")]
    return [*wrong, *(f"{one.claim.path}: {one.name} is not good: {one.problem}" for one in records if one.problem)]
