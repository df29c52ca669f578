"""The Kubernetes objects that making and restoring a volume's backup take."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from managed_k8s.kube.csi import BACKUP_CLASS, DRIVER
from managed_k8s.volumes.claims import ZONE, Claim

Object = dict[str, Any]

# Of VolumeSnapshots; Cinder backups and snapshots carry the name in their metadata.
SNAPSHOT_PREFIX = "managed-k8s-backup-"
MADE_BY_US = {"managed-k8s/volume-backup": "unfinished"}


def snapshot_name(claim: Claim, time: float) -> str:
    """Return what the VolumeSnapshot of a run is called; a claim's name may be as long as an object's."""
    digest = hashlib.sha256(claim.path.encode()).hexdigest()[:12]
    return f"{SNAPSHOT_PREFIX}{time:.0f}-{digest}"


def snapshot(claim: Claim, time: float) -> Object:
    """Return the VolumeSnapshot that makes a backup: it is there until that is complete."""
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": snapshot_name(claim, time), "namespace": claim.namespace, "labels": MADE_BY_US},
        "spec": {"volumeSnapshotClassName": BACKUP_CLASS, "source": {"persistentVolumeClaimName": claim.name}},
    }


def volume(claim: Claim, name: str, handle: str, size: int, reclaim: str, zone: str) -> Object:
    """Return the PersistentVolume of a Cinder volume, for one claim, like one that Cinder CSI had made.

    claim: whom it is for. handle: Cinder's id. size: in GiB. reclaim: what becomes of it once its claim is deleted.
    zone: the only one that nodes can use it in; empty: any.
    """
    specification: Object = {
        "capacity": {"storage": f"{size}Gi"},
        "accessModes": list(claim.access_modes),
        "volumeMode": claim.volume_mode,
        "storageClassName": claim.storage_class,
        "persistentVolumeReclaimPolicy": reclaim,
        "claimRef": {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "namespace": claim.namespace,
            "name": claim.name,
        },
        "csi": {"driver": DRIVER, "volumeHandle": handle},
    }
    if claim.file_system:
        specification["csi"]["fsType"] = claim.file_system
    if zone:
        here = {"key": ZONE, "operator": "In", "values": [zone]}
        specification["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
    # Without it the driver would not delete the volume in Cinder.
    annotations = {"pv.kubernetes.io/provisioned-by": DRIVER}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": annotations},
        "spec": specification,
    }


def claim(wanted: Claim, volume: str, size: int, labels: Mapping[str, str]) -> Object:
    """Return the PersistentVolumeClaim to a PersistentVolume."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": wanted.name, "namespace": wanted.namespace, "labels": dict(labels)},
        "spec": {
            "accessModes": list(wanted.access_modes),
            "volumeMode": wanted.volume_mode,
            "storageClassName": wanted.storage_class,
            "resources": {"requests": {"storage": f"{size}Gi"}},
            "volumeName": volume,
        },
    }
