"""Checks that only look: nodes, add-ons, etcd, the API at its public address."""

from __future__ import annotations

from kubernetes.client import ApiClient, AppsV1Api

from managed_k8s import names
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.kube.addons.collect import LABEL
from managed_k8s.kube.smoke.check import FailedError, eventually

# Nodes and pods of a cluster that has just been made may still be starting.
_LIMIT = 120


def nodes(api: ApiClient) -> str:
    """Check that every node is Ready and known to the cloud."""

    def look() -> str:
        found = kube_nodes.nodes(api)
        problems = [f"{name} is not Ready" for name, node in found.items() if not node["ready"]]
        problems += [
            f"{name} has no provider id: is a cloud controller manager running?"
            for name, node in found.items()
            if node["provider_id"] is None
        ]
        if problems:
            raise FailedError("; ".join(problems))
        return f"{len(found)} nodes Ready, all with provider ids"

    return eventually(look, _LIMIT)


def etcd(api: ApiClient) -> str:
    """Check that there is a healthy etcd on every control plane node, and that the API server reaches it."""

    def look() -> str:
        masters = [n for n, node in kube_nodes.nodes(api).items() if node["role"] == names.MASTER]
        members = kube_nodes.etcd_members(kube_nodes.control_plane(api))
        problems = [f"{name}: no healthy etcd" for name in masters if not members.get(name)]
        if not kube_nodes.healthy(api, "/readyz/etcd"):
            problems.append("/readyz/etcd of the API server fails")
        if problems:
            raise FailedError("; ".join(problems))
        return f"{len(masters)} members healthy"

    return eventually(look, _LIMIT)


def public_api(api: ApiClient) -> str:
    """Check that the API is ready at the address of our kubeconfig, the floating IP."""

    def look() -> str:
        if not kube_nodes.healthy(api, "/readyz"):
            raise FailedError(f"{api.configuration.host}/readyz fails")
        return f"{api.configuration.host} is ready"

    return eventually(look, _LIMIT)


def workloads(api: ApiClient) -> str:
    """Check that all pods of the add-ons run: those of every Deployment and DaemonSet that is ours."""
    selector = ",".join(f"{key}={value}" for key, value in LABEL.items())
    apps = AppsV1Api(api)

    def look() -> str:
        daemons = apps.list_daemon_set_for_all_namespaces(label_selector=selector).items
        deployments = apps.list_deployment_for_all_namespaces(label_selector=selector).items
        counts = [(d, d.status.number_available or 0, d.status.desired_number_scheduled) for d in daemons]
        counts += [(d, d.status.available_replicas or 0, d.spec.replicas) for d in deployments]
        problems = [
            f"{item.metadata.namespace}/{item.metadata.name}: {have} of {wanted} pods run"
            for item, have, wanted in counts
            if have < wanted or not wanted
        ]
        if problems or not counts:
            raise FailedError("; ".join(problems) or "there are no add-ons")
        return f"{len(counts)} workloads complete"

    return eventually(look, _LIMIT)
