"""Which version of Kubernetes a node is made from: the one it runs, until it is its turn to run another.

The settings say which version a cluster begins with. From then on what runs counts, as the API told it last; only
managed_k8s.upgrade changes it, one node after the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from managed_k8s.config import kubernetes_versions
from managed_k8s.config.settings import Settings
from managed_k8s.model.rollout import Versions, is_older, number
from managed_k8s.names import GATEWAY, MASTER, Node
from managed_k8s.state.change_requests import RESTORE
from managed_k8s.state.store import Store

# What the API told last; what managed_k8s.upgrade was asked for; what is at work, and whose turn it is.
SEEN, WANTED, AT_WORK = "versions.json", "upgrade.json", "rolling.json"


def at(settings: Settings, version: str) -> Settings:
    """Return the settings of the same cluster with another Kubernetes version.

    artifacts.sha256 is of one version's files only; those of another one are the ones that were kept.
    """
    if settings.kubernetes.version == version:
        return settings
    kubernetes = settings.kubernetes.model_copy(update={"version": version})
    artifacts = settings.artifacts.model_copy(update={"sha256": None})
    return settings.model_copy(update={"kubernetes": kubernetes, "artifacts": artifacts})


def wanted(settings: Settings, store: Store) -> Settings:
    """Return the settings with the version that the cluster has, or is being upgraded to."""
    said = ((store.read(SEEN) or {}).get("config"), (store.read(WANTED) or {}).get("version"))
    return at(settings, max(filter(None, said), key=number, default=settings.kubernetes.version))


def of_node(settings: Settings, store: Store, node: Node) -> Settings:
    """Return the settings with the version that a node is made from now."""
    return at(settings, _of_node(settings, store, node))


def _of_node(settings: Settings, store: Store, node: Node) -> str:
    seen, upgrade = store.read(SEEN), store.read(WANTED) or {}
    if seen is None:
        return settings.kubernetes.version
    if node.id in (store.read(AT_WORK) or {}).get("turn", ()):
        return str(upgrade.get("version", seen["config"]))
    runs = seen["nodes"].get(node.id)
    if runs in kubernetes_versions.SUPPORTED and node.role != GATEWAY:
        return str(runs)
    # kubeadm joins a master by its ConfigMap; a worker's kubelet must not be newer than any API server.
    return str(seen["config"] if node.role in (GATEWAY, MASTER) else seen["control_plane"])


def of_addons(settings: Settings, store: Store) -> Settings:
    """Return the settings with the version that the add-ons go with: they follow the last API server."""
    return at(settings, (store.read(SEEN) or {}).get("control_plane", settings.kubernetes.version))


def upcoming(settings: Settings, store: Store) -> Settings | None:
    """Return the settings with the version that a node will be upgraded to; None when it has that.

    settings: of the node.
    """
    found = wanted(settings, store)
    return found if is_older(settings.kubernetes.version, found.kubernetes.version) else None


def remember(store: Store, versions: Versions) -> None:
    """Keep what the API told, so that nodes are made from it; what is not whole is not kept.

    Nor what an API says that a restore is about to replace.
    """
    if not (versions.config and versions.control_planes and versions.kubelets):
        return
    if (store.read(RESTORE) or {}).get("pausing"):
        return
    told = _seen(versions.config, versions.control_planes, versions.kubelets)
    if told != store.read(SEEN):
        store.write(SEEN, told)


def begin(store: Store, version: str) -> None:
    """Note the version that a control plane was made with, before anybody can ask it."""
    store.write(SEEN, {"config": version, "control_plane": version, "nodes": {}})


def went_back(store: Store, version: str) -> None:
    """Note that a cluster was restored from a backup that ran this version: no upgrade is under way any more."""
    for name in (WANTED, AT_WORK):
        store.remove(name)
    begin(store, version)


def _seen(config: str, control_planes: Mapping[str, str], kubelets: Mapping[str, str]) -> dict[str, Any]:
    return {
        "config": config,
        "control_plane": min(control_planes.values(), key=number),
        "nodes": dict(sorted(kubelets.items())),
    }
