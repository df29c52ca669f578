"""The cluster made by us, as an operator does it, with the steps that its history tells of."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from bench.setting import BenchError, Setting
from managed_k8s.model.steps import KINDS, SMOKE
from managed_k8s.state.history import History

_ALL = 2000


def make(setting: Setting) -> dict[str, Any]:
    """Return seconds until the smoke test passed, until the commands ended, and of each step. Raises BenchError."""
    begun = time.time()
    setting.run("salt-cloud", "-y", "-m", "cluster.map")
    servers = time.time() - begun
    setting.run("salt-run", "managed_k8s.wait", setting.cluster.name)
    waited = time.time() - begun
    entries = History(setting.cluster.store).last(_ALL)
    return {
        "seconds": round(smoke_tested(entries, begun) - begun, 1),
        "salt_cloud": round(servers, 1),
        "waited": round(waited, 1),
        "steps": steps(entries, begun),
    }


def smoke_tested(entries: Iterable[Mapping[str, Any]], begun: float) -> float:
    """Return when the smoke test passed for the first time since a moment. Raises BenchError when it did not."""
    for entry in entries:
        if entry["time"] >= begun and entry["what"] == KINDS[SMOKE].event:
            return float(entry["time"])
    raise BenchError("the cluster's history does not say that its smoke test passed: was it there before?")


def steps(entries: Iterable[Mapping[str, Any]], begun: float) -> list[dict[str, Any]]:
    """Return the steps since a moment, in the order of their beginning.

    entries: of a cluster's history. A step has `step` (its id), `seconds` that it took, `until` (seconds from that
    moment to its end), and when it failed, `failed`.
    """
    found = [
        {
            "step": entry["step"],
            "seconds": entry["seconds"],
            "until": round(entry["time"] - begun, 1),
            **({"failed": True} if entry["what"] == "failed" else {}),
        }
        for entry in entries
        if entry["time"] >= begun and "seconds" in entry
    ]
    return sorted(found, key=lambda step: step["until"] - step["seconds"])


def remove(setting: Setting) -> None:
    """Remove the cluster with all that is in it."""
    setting.run("salt-run", "managed_k8s.destroy", setting.cluster.name, "yes=True")


def there(setting: Setting) -> list[str]:
    """Return what there is of it in the cloud, in words."""
    from managed_k8s.openstack import infrastructure

    return infrastructure.destroy_plan(setting.cluster.cloud.connection, setting.cluster.name)
