"""What a rollout asks of the cluster's API, and does through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import urllib3.exceptions
import yaml
from kubernetes.client import ApiClient, CoreV1Api
from kubernetes.client.exceptions import ApiException

from managed_k8s.kube import drain, node_annotations
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.model.rollout import Versions, number
from managed_k8s.observe import membership

# What kubeadm upgrades of a control plane; etcd has versions of its own.
_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
_INTERVAL = 2.0


class NodeError(RuntimeError):
    """A node does not come back as it should; the message says what it is instead."""


def versions(api: ApiClient, nodes: membership.Nodes, pods: Iterable[Any]) -> Versions:
    """Return what runs, by one request. Raises ApiException.

    nodes, pods: as observe_kubernetes.nodes() and control_plane() return them.
    """
    found: dict[str, dict[str, str]] = {}
    for pod in pods:
        component = kube_nodes.component(pod)
        if component in _COMPONENTS and pod.spec.node_name in nodes:
            found.setdefault(pod.spec.node_name, {})[component] = _tag(pod.spec.containers[0].image)
    whole = {node: parts for node, parts in found.items() if parts.keys() == set(_COMPONENTS)}
    return Versions(
        config=_config(CoreV1Api(api)),
        control_planes={node: min(parts.values(), key=number) for node, parts in whole.items()},
        kubelets={name: str(node["version"]) for name, node in nodes.items()},
    )


def _tag(image: str) -> str:
    return image.rpartition(":")[2].removeprefix("v")


def _config(core: CoreV1Api) -> str:
    try:
        text = core.read_namespaced_config_map("kubeadm-config", "kube-system").data["ClusterConfiguration"]
    except ApiException as error:
        if error.status == 404:
            return ""
        raise
    return str(yaml.safe_load(text)["kubernetesVersion"]).removeprefix("v")


def empty(api: ApiClient, node: str, limit: float, say: Callable[[str], None]) -> None:
    """Cordon a node for its maintenance, and have its pods leave, by force after `limit` seconds."""
    drain.cordon(api, node, node_annotations.MAINTENANCE)
    drain.evict(api, node, limit, say, force=True)


def fill(api: ApiClient, node: str) -> None:
    """Undo the cordon of empty(); somebody else's stays."""
    drain.uncordon(api, node, node_annotations.MAINTENANCE)


def await_node(connect: Callable[[], ApiClient], node: str, wanted: Mapping[str, str], limit: float) -> None:
    """Wait until a node is Ready and as it should be. Raises NodeError after `limit` seconds.

    connect: makes a client. wanted: `version` of its kubelet, and `not_boot`, the boot that is over; either may lack.
    """
    end = time.monotonic() + limit
    while True:
        try:
            lacks = _lacks(CoreV1Api(connect()).read_node(node), wanted)
        except (ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            # The API server that was asked may be the one that restarts.
            lacks = f"cannot be asked: {error}"
        if not lacks:
            return
        if time.monotonic() >= end:
            raise NodeError(f"{node} {lacks}, after {limit:.0f} seconds")
        time.sleep(_INTERVAL)


def _lacks(found: Any, wanted: Mapping[str, str]) -> str:
    """Return what a Node lacks, in words; empty when nothing."""
    info = found.status.node_info
    runs = info.kubelet_version.removeprefix("v")
    if runs != wanted.get("version", runs):
        return f"runs kubelet {runs}, not {wanted['version']}"
    if info.boot_id == wanted.get("not_boot"):
        return "did not report since its reboot"
    ready = any(c.type == "Ready" and c.status == "True" for c in found.status.conditions or [])
    return "" if ready else "is not Ready"
