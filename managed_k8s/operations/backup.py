"""What an operator can ask for about backups, as plain functions; the runner is their face."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from managed_k8s.backup import service, upload
from managed_k8s.backup.record import Record
from managed_k8s.cluster import Cluster
from managed_k8s.operations import due
from managed_k8s.operations.clusters import choose


def backup(opts: Mapping[str, Any], cluster: str | None, reason: str) -> Record:
    """Take a backup now; wait for one that is under way first."""
    backups = Cluster(opts, choose(opts, cluster)).backups
    with service.lock(backups.store):
        return backups.take(reason)


def verify(opts: Mapping[str, Any], cluster: str | None, name: str | None) -> Record:
    """Restore a backup, the newest by default, into a scratch etcd here. Raises BackupError when it is not good."""
    backups = Cluster(opts, choose(opts, cluster)).backups
    with service.lock(backups.store):
        return backups.verify(name)


def listing(opts: Mapping[str, Any], cluster: str | None) -> tuple[list[Record], dict[str, Any]]:
    """Return all backups, newest first, and what is wrong with them."""
    backups = Cluster(opts, choose(opts, cluster)).backups
    return backups.records(), backups.state()


def check(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Return what is wrong with a cluster, for monitoring: from what is on record, so it is quick and asks nobody."""
    found = Cluster(opts, choose(opts, cluster))
    ready = (found.store.read("state.json") or {}).get("ready")
    wrong = [] if ready else ["the cluster is not ready; see: salt-run managed_k8s.status"]
    backups = [*found.backups.state()["problems"], *found.volumes.state()["problems"]]
    return {"cluster": found.name, "problems": [*wrong, *backups]}


def sweep(opts: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
    """Start what is due of the clusters' backups, each in a process of its own, and remove what nobody asked for."""
    now = time.time() if now is None else now

    def is_due(found: Cluster) -> bool:
        upload.clear(opts, found.name)
        return bool(found.settings.backup.enabled and found.backups.due(now))

    return due.start(opts, "backup", service.lock, is_due, now)
