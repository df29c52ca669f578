"""What a minion is told: its cluster's settings, who its neighbours are, and the secrets that its role needs."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from typing import Any

import filelock

from managed_k8s import names, paths
from managed_k8s.artifacts import mirror
from managed_k8s.config import load
from managed_k8s.config.settings import Settings
from managed_k8s.minions import kubeadm_config
from managed_k8s.names import GATEWAY, MASTER, Node
from managed_k8s.state import versions
from managed_k8s.state.store import Store

# Images that run on workers; everything that holds the cloud's credential runs on masters only.
_WORKERS_IMAGES = {"coredns", "cinder-csi-plugin", "csi-node-driver-registrar", "flannel", "kube-proxy", "pause"}
# Images without which kubeadm cannot finish, or the node is not Ready; the others may come while it joins.
# CoreDNS is one of a master's: kubeadm's preflight wants to pull what of a control plane's images is not there.
_WORKERS_FIRST_IMAGES = {"flannel", "kube-proxy", "pause"}
_MASTERS_FIRST_IMAGES = _WORKERS_FIRST_IMAGES | {
    "coredns", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler",
}  # fmt: skip
_FLANNEL = "flannel"
# A minion says when something that should work on its server does not, or does again; seconds between its looks.
BEACONS = {"managed_k8s_node": [{"interval": 10}]}
_MASTERS_PROGRAMS = {"bin/etcdctl", "bin/etcdutl"}


def of(opts: Mapping[str, Any], minion_id: str) -> dict[str, Any]:
    """Return the pillar of a minion; nothing when the id is no node of a cluster with settings.

    Raises InvalidError or MirrorError.
    """
    node = names.parse(minion_id)
    if node is None or node.cluster not in load.clusters(opts):
        return {}
    store = Store.of(opts, node.cluster)
    settings = versions.wanted(load.load(opts, node.cluster), store)
    root = paths.root(opts)
    content = public(node, settings, store, paths.tree_digest(root))
    return content | {"extensions": paths.extensions(root), "secrets": _secrets(node, store)}


def public(node: Node, settings: Settings, store: Store, tree: str) -> dict[str, Any]:
    """Return everything but secrets; `revision` is a digest of it and of the states that it is for.

    The version of Kubernetes is the one whose turn it is on this node, whatever the settings say.
    """
    settings = versions.of_node(settings, store, node)
    inventory = store.read("inventory.json") or {}
    public_address = (store.read("infra.json") or {}).get("public_address")
    content = {
        "cluster": node.cluster,
        "role": node.role,
        "name": node.id,
        "settings": of_nodes(settings),
        "virtual_ip": settings.openstack.virtual_ip,
        "kubeadm": kubeadm_config.of(node, settings, public_address) if node.role != GATEWAY else None,
        "gateways": _addresses(inventory, GATEWAY) if node.role == GATEWAY else {},
        "masters": _addresses(inventory, MASTER) if node.role == GATEWAY else {},
        "ca": store.read_text("ca.crt") if node.role == GATEWAY else None,
        **_artifacts(node, settings, store),
        **_upcoming(node, settings, store),
    }
    return content | {"revision": paths.digest([content, tree])}


def of_nodes(settings: Settings) -> dict[str, Any]:
    """Return the settings that nodes are made from; the others, the Salt master's and the cloud's, change no node."""
    return settings.model_dump(
        mode="json",
        exclude={
            "backup": True, "metrics": True, "healing": True, "maintenance": True,
            "openstack": {"api_allowed_cidrs", "ssh_allowed_cidrs"},
        },
    )  # fmt: skip


def _addresses(inventory: Mapping[str, Mapping[str, Any]], role: str) -> dict[str, str]:
    return {name: s["address"] for name, s in sorted(inventory.items()) if s["role"] == role and s["address"]}


def _artifacts(node: Node, settings: Settings, store: Store) -> dict[str, Any]:
    found = mirror.artifacts(store, settings)
    debian = {"url": f"{settings.artifacts.url}/debian", "key_sha256": found.get("debian_key")}
    if node.role == GATEWAY:
        return {"debian": debian}
    files = {name: digest for name, digest in found["sums"].items() if _wanted(node, name)}
    images = [
        {"archive": image["archive"], "reference": f"{image['name']}:{image['tag']}", "digest": image["digest"]}
        for image in found["versions"]["images"]
        if _runs(node, settings, _name(image))
    ]
    pause = next(image["reference"] for image in images if image["archive"] == "images/pause.tar")
    sums = files | {image["archive"]: found["sums"][image["archive"]] for image in images}
    artifacts = {"base": found["base"], "sums": sums}
    wanted = _MASTERS_FIRST_IMAGES if node.role == MASTER else _WORKERS_FIRST_IMAGES
    first = [image for image in images if _name(image) in wanted]
    later = [image for image in images if image not in first]
    return {
        "debian": debian,
        "artifacts": artifacts,
        "images": {"first": first, "later": later},
        "sandbox_image": pause,
    }


def _upcoming(node: Node, settings: Settings, store: Store) -> dict[str, Any]:
    """Return what a node gets before it is its turn to be upgraded: that version's kubeadm and images."""
    found = None if node.role == GATEWAY else versions.upcoming(settings, store)
    if found is None:
        return {} if node.role == GATEWAY else {"upcoming": None}
    parts = _artifacts(node, found, store)
    images = [*parts["images"]["first"], *parts["images"]["later"]]
    sums = {
        name: digest for name, digest in parts["artifacts"]["sums"].items() if not name.startswith(("bin/", "cni/"))
    }
    kubeadm = {"bin/kubeadm": parts["artifacts"]["sums"]["bin/kubeadm"]}
    return {"upcoming": {"base": parts["artifacts"]["base"], "kubeadm": kubeadm, "images": images, "sums": sums}}


def _name(image: Mapping[str, Any]) -> str:
    return str(image["archive"]).removeprefix("images/").removesuffix(".tar")


def _wanted(node: Node, name: str) -> bool:
    folder = name.partition("/")[0]
    return folder in ("bin", "cni") and (node.role == MASTER or name not in _MASTERS_PROGRAMS)


def _runs(node: Node, settings: Settings, archive: str) -> bool:
    if archive == _FLANNEL:
        return settings.kubernetes.cni == _FLANNEL
    return node.role == MASTER or archive in _WORKERS_IMAGES


def _secrets(node: Node, store: Store) -> dict[str, Any]:
    if node.role == GATEWAY:
        return {}
    found = {"join": store.read(f"joins/{node.id}.json")}
    if node.role == MASTER:
        found["encryption"] = encryption_key(store)
    return found


def encryption_key(store: Store) -> str:
    """Return the key that Secrets are encrypted with in etcd, base64 of 32 bytes; made once."""
    with filelock.FileLock(store.path(".encryption.lock")):
        kept = store.read("encryption.json")
        if kept is None:
            kept = {"key": base64.b64encode(secrets.token_bytes(32)).decode()}
            store.write("encryption.json", kept)
    return str(kept["key"])
