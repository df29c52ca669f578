"""What is kept about servers' health: when a confirmed outage began, and what was tried."""

from __future__ import annotations

import time
from typing import Any

import filelock

from managed_k8s.model.health import Health
from managed_k8s.state.history import History
from managed_k8s.state.store import Store

FILE = "healing.json"


def read(store: Store) -> dict[str, Any]:
    """Return what is kept."""
    return dict(store.read(FILE) or {})


def keep(store: Store, history: History, health: Health) -> None:
    """Keep what a look found, and announce its news. For the reconciler alone: whoever else looks changes nothing."""
    if health.record is None:
        return
    with _lock(store):
        kept = read(store)
        record = {**health.record, "servers": {**health.record["servers"]}}
        for name, entry in kept.get("servers", {}).items():
            mine = record["servers"].get(name, {"tried": []})
            # Attempts that began after that look, or of which more is known now.
            now = {one["at"]: one for one in entry["tried"]}
            old = [now.pop(one["at"], one) for one in mine["tried"]]
            new = [one for at, one in now.items() if at >= health.time]
            if old or new:
                record["servers"][name] = {**mine, "tried": [*old, *new]}
        if record != kept:
            store.write(FILE, record)
    for subject, what, reason in health.news:
        history.add(subject, what, reason)


def tried(store: Store, name: str, server: str, what: str) -> float:
    """Note that something is tried, before it is: what is interrupted counts. Return when."""
    at = time.time()
    with _lock(store):
        kept = read(store)
        servers = kept.setdefault("servers", {})
        servers.setdefault(name, {"tried": []})["tried"].append({"what": what, "at": at, "server": server})
        store.write(FILE, kept)
    return at


def refused(store: Store, name: str, at: float) -> None:
    """Note that the cloud did not do what was tried then: it counts, but may help yet."""
    with _lock(store):
        kept = read(store)
        for attempt in kept.get("servers", {}).get(name, {}).get("tried", ()):
            if attempt["at"] == at:
                attempt["refused"] = True
        store.write(FILE, kept)


def _lock(store: Store) -> filelock.FileLock:
    return filelock.FileLock(store.path(".healing.lock"), mode=0o600)
