"""What an operator can ask for about backups, as plain functions; the runner is their face."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import filelock

from managed_k8s import inputs, wakeups
from managed_k8s.backup import landing, service
from managed_k8s.backup.record import Record
from managed_k8s.cluster_map import MapError
from managed_k8s.live import Cluster
from managed_k8s.settings import InvalidError
from managed_k8s.store import Store
from managed_k8s.verbs import choose

# Seconds that making a cluster is not disturbed by backups.
_MAKING = 1800


def backup(opts: Mapping[str, Any], cluster: str | None, reason: str) -> Record:
    """Take a backup now; wait for one that is under way first. Raises what verbs.errors() lists."""
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


def has_begun(store: Store, now: float) -> bool:
    """Tell whether there is a cluster to back up: one made, or being made for so long that it holds data."""
    if not (store.read("initialised.json") or {}).get("finished"):
        return False
    return store.read("smoke.json") is not None or now - store.path("initialised.json").stat().st_mtime > _MAKING


def sweep(opts: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
    """Start what is due of the clusters' backups, each in a process of its own, and remove what nobody asked for."""
    now = time.time() if now is None else now
    started = []
    for name in inputs.clusters(opts):
        store = Store.of(opts, name)
        if not has_begun(store, now):
            continue
        try:
            with service.lock(store).acquire(blocking=False):
                landing.clear(opts, name)
                backups = Cluster(opts, name).backups
                work = backups.due(now) if backups.settings["backup"]["enabled"] else []
        except (filelock.Timeout, InvalidError, MapError):
            # A backup is under way; or the settings are wrong, and the reconciler says so.
            continue
        if work:
            wakeups.start(opts, store, "backup")
            started.append(name)
    return {"clusters": started}
