"""What an operator can ask for about volumes' backups, as plain functions; the runner is their face."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from managed_k8s.cluster import Cluster
from managed_k8s.operations import due
from managed_k8s.operations.clusters import choose
from managed_k8s.volumes import service
from managed_k8s.volumes.record import Record
from managed_k8s.volumes.restore_plan import Restoration
from managed_k8s.volumes.service import Say, VolumeBackups


def backup(opts: Mapping[str, Any], cluster: str | None, reason: str) -> list[Record]:
    """Back the volumes up now; wait for those who are at it first."""
    volumes = Cluster(opts, choose(opts, cluster)).volumes
    with service.lock(volumes.store):
        return volumes.take(reason)


def listing(opts: Mapping[str, Any], cluster: str | None) -> tuple[list[Record], dict[str, Any]]:
    """Return all backups, newest first, and what is wrong with them."""
    volumes = Cluster(opts, choose(opts, cluster)).volumes
    return volumes.records(), volumes.state()


def plan(
    opts: Mapping[str, Any],
    cluster: str | None,
    pvc: str | None,
    namespace: str | None,
    backup: str | None,
    into: str | None,
    into_namespace: str | None,
) -> tuple[VolumeBackups, list[Restoration]]:
    """Return what restore() is to do. Raises VolumeError with everything that is in the way."""
    volumes = Cluster(opts, choose(opts, cluster)).volumes
    return volumes, volumes.plan(pvc, namespace, backup, into, into_namespace)


def restore(volumes: VolumeBackups, restorations: Sequence[Restoration], say: Say) -> list[dict[str, str]]:
    """Do what plan() said; wait for a backup that is under way first."""
    with service.lock(volumes.store):
        return volumes.restore(restorations, say)


def sweep(opts: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
    """Start the backups of volumes that are due, each cluster's in a process of its own."""
    now = time.time() if now is None else now

    def is_due(found: Cluster) -> bool:
        return found.volumes.settings.enabled and found.volumes.is_due(now)

    return due.start(opts, "volumes", service.lock, is_due, now)


def data(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Return backups as plain data."""
    return [dataclasses.asdict(one) | {"name": one.name} for one in records]
