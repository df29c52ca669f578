"""Backups and volumes in Cinder: found by what Cinder CSI and we wrote into their metadata, also without a cluster.

Restoring goes past the snapshot objects: Cinder CSI 1.36 finds no backup by its id when a VolumeSnapshotContent names
one (https://github.com/kubernetes/cloud-provider-openstack/pull/3210), so nowhere but in the same namespace.
"""

from __future__ import annotations

import operator
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, TypeVar

from managed_k8s import names
from managed_k8s.volumes import record
from managed_k8s.volumes.claims import Claim
from managed_k8s.volumes.objects import SNAPSHOT_PREFIX
from managed_k8s.volumes.restore_plan import Restoration, VolumeError

# Written by Cinder CSI: of which VolumeSnapshot, for which claim.
SNAPSHOT = "csi.storage.k8s.io/volumesnapshot/name"
_CLAIM, _NAMESPACE = "csi.storage.k8s.io/pvc/name", "csi.storage.k8s.io/pvc/namespace"
# A volume is `pending:<backup>` until a claim has it, `done:<backup>` then.
RESTORE = "managed-k8s/restore"
_IDLE = ("available", "error", "error_restoring")
_LOOK = 2.0

Result = TypeVar("Result")


class Cloud(Protocol):
    """What is needed of the cluster's side of OpenStack; managed_k8s.openstack.client.Cloud has it."""

    def ask(self, question: Callable[[Any], Result], repeat: bool = False) -> Result:
        """Return what a function of the connection returns. Raises CloudError."""

    def quota_left(self, what: str) -> tuple[int, int] | None:
        """Return how many more the project may have, and its quota; None when nothing is known to stop it."""


class Cinder:
    """A cluster's side of Cinder.

    cloud: gives its side of OpenStack, once that is needed.
    """

    def __init__(self, cloud: Callable[[], Cloud], cluster: str) -> None:
        self._cloud, self.cluster = cloud, cluster

    def _ask(self, question: Callable[[Any], Result]) -> Result:
        return self._cloud().ask(lambda connection: question(connection.block_storage), repeat=True)

    # Backups

    def backups(self) -> list[Any]:
        """Return the cluster's backups, complete or not."""
        return self._ask(lambda storage: self._ours(storage.backups()))

    def _ours(self, items: Iterable[Any]) -> list[Any]:
        return [item for item in items if (item.metadata or {}).get(names.CSI_CLUSTER) == self.cluster]

    def room(self) -> tuple[int, int] | None:
        """Return how many more backups the project may have, and its quota; None when nothing is known to stop it."""
        return self._cloud().quota_left("volume backup")

    def mark(self, backup: Any, told: Mapping[str, str]) -> None:
        """Note with a backup that it is complete, and what it is of."""
        # Cinder replaces what is there.
        everything = {**(backup.metadata or {}), **told}
        self._ask(lambda storage: storage.update_backup(backup.id, metadata=everything))

    def delete_backups(self, ids: Iterable[str]) -> None:
        """Remove backups; those that are gone are fine."""
        for each in ids:
            self._ask(operator.methodcaller("delete_backup", each))

    def clear(self) -> list[str]:
        """Remove what backups that were interrupted left; to be called while none is under way. Return it in words.

        What Cinder still works on is left for the next time.
        """
        backups = [one for one in self.backups() if record.MARK not in one.metadata and _is_of_a_run(one)]
        snapshots = [one for one in self._ask(lambda s: self._ours(s.snapshots())) if _is_of_a_run(one)]
        self.delete_backups(one.id for one in backups if one.status in _IDLE)
        for one in snapshots:
            if one.status in _IDLE:
                self._ask(operator.methodcaller("delete_snapshot", one.id))
        return [f"{kind} {one.name}" for kind, ones in (("backup", backups), ("snapshot", snapshots)) for one in ones]

    # Volumes

    def restored(self, restoration: Restoration, used: Callable[[str], bool]) -> Any | None:
        """Return the volume that an interrupted run made for this.

        used: tells whether some claim has, or had, the volume of this id.
        """
        return next(
            (one for one in self._pending() if _is_for(one, restoration) and not used(one.id)),
            None,
        )

    def _pending(self) -> list[Any]:
        volumes = self._ask(lambda storage: self._ours(storage.volumes()))
        return [one for one in volumes if one.metadata.get(RESTORE, "").startswith("pending:") and not one.attachments]

    def create(self, restoration: Restoration, volume_type: str | None, zone: str | None) -> Any:
        """Make a volume of a backup's content; it is not ready yet."""
        name = f"restored-{uuid.uuid4()}"
        values = {
            "name": name,
            "size": restoration.record.size,
            "backup_id": restoration.record.id,
            "volume_type": volume_type,
            "availability_zone": zone,
            "metadata": {
                names.CSI_CLUSTER: self.cluster,
                **_whose(restoration.target),
                "csi.storage.k8s.io/pv/name": name,
                RESTORE: f"pending:{restoration.record.id}",
            },
        }
        given = {key: value for key, value in values.items() if value is not None}
        # Not again when nobody knows whether it was made: a second one would be nobody's.
        return self._cloud().ask(lambda connection: connection.block_storage.create_volume(**given))

    def await_restored(self, volume: Any, limit: float) -> Any:
        """Return a volume once it has its content; remove it when that fails. Raises VolumeError."""
        end = time.monotonic() + limit
        while True:
            found = self._ask(lambda storage: storage.get_volume(volume.id))
            if found.status == "available":
                return found
            if found.status.startswith("error"):
                self._ask(lambda storage: storage.delete_volume(volume.id))
                raise VolumeError(f"Cinder cannot restore volume {volume.name}: it is {found.status}; its backup stays")
            if time.monotonic() > end:
                raise VolumeError(f"Cinder volume {volume.name} is {found.status} after {limit:.0f} s; run it again")
            time.sleep(_LOOK)

    def finish(self, volume: Any, restoration: Restoration) -> None:
        """Note with a volume that a claim has it."""
        done = {RESTORE: f"done:{restoration.record.id}"}
        self._ask(lambda storage: storage.set_volume_metadata(volume.id, **done))


def _is_of_a_run(item: Any) -> bool:
    return str(item.metadata.get(SNAPSHOT, "")).startswith(SNAPSHOT_PREFIX)


def _whose(claim: Claim) -> dict[str, str]:
    return {_CLAIM: claim.name, _NAMESPACE: claim.namespace}


def _is_for(volume: Any, restoration: Restoration) -> bool:
    wanted = {RESTORE: f"pending:{restoration.record.id}", **_whose(restoration.target)}
    return all(volume.metadata.get(key) == value for key, value in wanted.items())
