"""A cluster with claims and the Cinder below it, in memory."""

import contextlib
import itertools
from types import SimpleNamespace
from typing import Any

from openstack.block_storage.v3.backup import Backup
from openstack.block_storage.v3.limits import AbsoluteLimit
from openstack.block_storage.v3.snapshot import Snapshot
from openstack.block_storage.v3.volume import Volume
from openstack.exceptions import HttpException, NotFoundException

from managed_k8s.openstack import quota
from managed_k8s.openstack.connection import explained, persistently
from managed_k8s.volumes.cinder import SNAPSHOT, Cinder
from managed_k8s.volumes.claims import LABEL, VALUE, Claim
from managed_k8s.volumes.restore_plan import VolumeError
from tests.support.settings import settings

CLUSTER = {"cinder.csi.openstack.org/cluster": "demo"}
SETTINGS = settings(
    backup={
        "volumes": {"retention": {"last": 2, "daily": 0, "weekly": 0}, "timeout_minutes": 1},
    }
)


def claim(name="data", namespace="shop", **more: Any) -> Claim:
    facts: dict[str, Any] = {
        "storage_class": "cinder", "file_system": "ext4", "zone": "nova", "uid": f"uid-{namespace}-{name}",
        "volume": f"pvc-{namespace}-{name}", "handle": f"volume-{namespace}-{name}", "labels": {LABEL: VALUE},
    }  # fmt: skip
    return Claim(namespace, name, **(facts | more))


class Storage:
    """Stands for openstacksdk's block storage proxy."""

    def __init__(self):
        self.all_backups: dict[str, Backup] = {}
        self.all_volumes: dict[str, Volume] = {}
        self.all_snapshots: dict[str, Snapshot] = {}
        self.numbers = itertools.count(1)
        self.volume_status = "available"
        self.quota = 100

    def get_limits(self):
        absolute = AbsoluteLimit(max_total_backups=self.quota, total_backups_used=len(self.all_backups))
        return SimpleNamespace(absolute=absolute)

    def backups(self):
        return iter(list(self.all_backups.values()))

    def snapshots(self):
        return iter(list(self.all_snapshots.values()))

    def volumes(self):
        return iter(list(self.all_volumes.values()))

    def add_backup(self, status="available", size=1, fail_reason=None, **metadata):
        name = f"backup-{next(self.numbers)}"
        self.all_backups[name] = Backup(
            id=name, status=status, size=size, metadata=CLUSTER | metadata, fail_reason=fail_reason
        )
        return name

    def update_backup(self, backup, metadata):
        assert all(isinstance(value, str) and 0 < len(value) <= 255 for value in metadata.values())
        self.all_backups[backup].metadata = metadata

    def delete_backup(self, backup):
        if self.all_backups[backup].status not in ("available", "error"):
            raise HttpException("Invalid backup: must be available or error", http_status=400)
        del self.all_backups[backup]

    def delete_snapshot(self, snapshot):
        del self.all_snapshots[snapshot]

    def create_volume(self, **values):
        made = Volume(
            id=f"new-{next(self.numbers)}", status="restoring-backup",
            attachments=[], **{"availability_zone": "nova", **values},
        )  # fmt: skip
        self.all_volumes[made.id] = made
        return made

    def get_volume(self, volume):
        if volume not in self.all_volumes:
            raise NotFoundException("no such volume")
        found = self.all_volumes[volume]
        found.status = self.volume_status
        return found

    def delete_volume(self, volume):
        del self.all_volumes[volume]

    def set_volume_metadata(self, volume, **metadata):
        self.all_volumes[volume].metadata = {**self.all_volumes[volume].metadata, **metadata}


class Kubernetes:
    """Stands for managed_k8s.volumes.kubernetes.Kubernetes, and for the controllers of the cluster.

    ill: what a claim's snapshot says instead of becoming a backup. broken: a claim's backup's status in Cinder.
    """

    def __init__(self, storage, *claims):
        self.storage = storage
        self.claims = {one.path: one for one in claims}
        self.pods: dict[str, list[str]] = {}
        self.there: dict[str, dict[str, Any]] = {}
        self.volumes: dict[str, dict[str, Any]] = {}
        self.namespaces = {"shop"}
        self.ill: dict[str, str] = {}
        self.broken: dict[str, str] = {}
        self.retained: list[str] = []
        self.interrupted = False

    def labelled(self):
        return [one for one in self.claims.values() if one.labels.get(LABEL) == VALUE]

    def claim(self, namespace, name):
        return self.claims.get(f"{namespace}/{name}")

    def users(self, namespace, name):
        return self.pods.get(f"{namespace}/{name}", [])

    def storage_classes(self):
        return {"cinder": SimpleNamespace(parameters={"type": "fast"}, reclaim_policy="Delete")}

    def zones(self):
        return {"nova"}

    def is_used(self, handle):
        return handle in [volume["spec"]["csi"]["volumeHandle"] for volume in self.volumes.values()]

    def snapshots(self):
        return list(self.there.values())

    def create_snapshot(self, item):
        name, namespace = item["metadata"]["name"], item["metadata"]["namespace"]
        path = f"{namespace}/{item['spec']['source']['persistentVolumeClaimName']}"
        status: dict[str, Any] = {"boundVolumeSnapshotContentName": f"content-{name}"}
        if path in self.ill:
            status["error"] = {"message": self.ill[path]}
        else:
            state = self.broken.get(path, "available")
            self.storage.add_backup(state, fail_reason="no space", **{SNAPSHOT: name})
            status["readyToUse"] = state == "available"
        self.there[name] = {**item, "status": status}
        if self.interrupted:
            raise KeyboardInterrupt

    def delete_snapshot(self, item):
        self.there.pop(item["metadata"]["name"], None)

    def retire(self, claim, limit):
        self.retained.append(claim.volume)
        del self.claims[claim.path]

    def bring(self, volume, claim, limit):
        if self.interrupted:
            raise VolumeError("interrupted")
        namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
        self.namespaces.add(namespace)
        self.volumes[volume["metadata"]["name"]] = volume
        self.claims[f"{namespace}/{name}"] = Claim(
            namespace, name, uid="new", volume=claim["spec"]["volumeName"],
            handle=volume["spec"]["csi"]["volumeHandle"], labels=claim["metadata"]["labels"],
        )  # fmt: skip


class Cloud:
    """The cluster's side of OpenStack, as far as volumes need it; errors are explained as the real one does."""

    def __init__(self, storage):
        self.connection = SimpleNamespace(block_storage=storage)

    def ask(self, question, repeat=False):
        with explained():
            return persistently(lambda: question(self.connection)) if repeat else question(self.connection)

    def quota_left(self, what):
        return self.ask(lambda connection: quota.left(connection, what), repeat=True)


def cinder(storage):
    return Cinder(lambda: Cloud(storage), "demo")


def connected(kubernetes):
    return lambda: contextlib.nullcontext(kubernetes)
