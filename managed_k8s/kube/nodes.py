"""What Kubernetes itself says about a cluster, in few requests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubernetes.client import ApiClient, CoordinationV1Api, CoreV1Api
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from managed_k8s import names
from managed_k8s.kube import node_annotations

_CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


def nodes(api: ApiClient) -> dict[str, dict[str, Any]]:
    """Return name -> state of all nodes, by one request.

    State: `ready`, `role` (master or worker), `provider_id` or None, `address` or None (the internal one), `taints`
    (`key` or `key=value`, then `:effect`), `version` (of the kubelet, like 1.36.3), `unschedulable`, `cordoned_by` (us:
    fleet.REMOVAL, OPERATOR or MAINTENANCE, or None), `drained` (whether it was, for a removal), `disk_pressure`.
    Raises ApiException.
    """
    return {item.metadata.name: _node(item) for item in CoreV1Api(api).list_node().items}


def _node(item: Any) -> dict[str, Any]:
    conditions = {condition.type: condition.status for condition in item.status.conditions or []}
    addresses = {address.type: address.address for address in item.status.addresses or []}
    master = _CONTROL_PLANE in (item.metadata.labels or {})
    annotations = item.metadata.annotations or {}
    return {
        "ready": conditions.get("Ready") == "True",
        "role": names.MASTER if master else names.WORKER,
        "provider_id": item.spec.provider_id or None,
        "address": addresses.get("InternalIP"),
        "taints": [_taint(taint) for taint in item.spec.taints or []],
        "version": item.status.node_info.kubelet_version.removeprefix("v"),
        "unschedulable": bool(item.spec.unschedulable),
        "cordoned_by": annotations.get(node_annotations.CORDONED),
        "drained": node_annotations.DRAINED in annotations,
        "disk_pressure": conditions.get("DiskPressure") == "True",
    }


def _taint(taint: Any) -> str:
    value = f"={taint.value}" if taint.value else ""
    return f"{taint.key}{value}:{taint.effect}"


def leases(api: ApiClient, timeout: float = 10) -> dict[str, str]:
    """Return node -> a text that changes whenever its kubelet says that it lives, every ten seconds, by one request.

    timeout: seconds. Raises ApiException.
    """
    items = CoordinationV1Api(api).list_namespaced_lease("kube-node-lease", _request_timeout=timeout).items
    return {item.metadata.name: str(item.spec.renew_time) for item in items}


def control_plane(api: ApiClient) -> list[Any]:
    """Return the pods of kubeadm's control planes, etcd among them, by one request. Raises ApiException."""
    found = CoreV1Api(api).list_namespaced_pod("kube-system", label_selector="tier=control-plane")
    return list(found.items)


def component(pod: Any) -> str:
    """Return which part of a control plane a pod is, like kube-apiserver; empty when it does not say."""
    return str((pod.metadata.labels or {}).get("component", ""))


def etcd_members(pods: Iterable[Any]) -> dict[str, bool]:
    """Return node -> whether the etcd on it answers its kubelet's probe.

    pods: of control_plane().
    """
    return {pod.spec.node_name: _ready(pod) for pod in pods if component(pod) == "etcd"}


def _ready(pod: Any) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])


def healthy(api: ApiClient, path: str, timeout: float = 5) -> bool:
    """Tell whether one of the API server's health checks passes.

    path: like /readyz or /livez/etcd; it is asked of the API server that the address leads to.
    timeout: seconds.
    """
    try:
        request = api.param_serialize("GET", path, auth_settings=["BearerToken"])
        answer = api.call_api(*request, _request_timeout=timeout)
    except (ApiException, HTTPError):
        return False
    return bool(answer.status == 200)
