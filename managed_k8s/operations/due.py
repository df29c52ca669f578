"""Starting what is due: for each cluster a process of its own, each kind of work once at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import filelock

from managed_k8s.cluster import Cluster
from managed_k8s.config import load
from managed_k8s.config.cluster_map import MapError
from managed_k8s.config.settings import InvalidError
from managed_k8s.state import queue
from managed_k8s.state.store import Store

Lock = Callable[[Store], filelock.FileLock]

# Seconds that making a cluster is not disturbed by backups.
_MAKING = 1800


def has_begun(store: Store, now: float) -> bool:
    """Tell whether there is a cluster to back up: one made, or being made for so long that it holds data."""
    if not (store.read("initialised.json") or {}).get("finished"):
        return False
    return store.read("smoke.json") is not None or now - store.path("initialised.json").stat().st_mtime > _MAKING


def start(
    opts: Mapping[str, Any], what: str, lock: Lock, is_due: Callable[[Cluster], bool], now: float
) -> dict[str, Any]:
    """Start what is due, each cluster's in a process of its own.

    what: a kind of worker.KINDS. lock: held by who is at it. is_due: asked while nobody is.
    """
    started = []
    for name in load.clusters(opts):
        found = Cluster(opts, name)
        if not has_begun(found.store, now):
            continue
        try:
            with lock(found.store).acquire(blocking=False):
                due = is_due(found)
        except (filelock.Timeout, InvalidError, MapError):
            # Somebody is at it; or the settings are wrong, and the reconciler says so.
            continue
        if due:
            queue.start(opts, found.store, what)
            started.append(name)
    return {"clusters": started}
