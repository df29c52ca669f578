"""That a cluster's control plane was begun: a tag on its virtual IP's port, which outlives the Salt master."""

from __future__ import annotations

from typing import Any

from openstack.connection import Connection

from managed_k8s import names
from managed_k8s.openstack.connection import CloudError

TAG = "managed-k8s-initialised"


def is_set(conn: Connection, cluster: str) -> bool:
    """Tell whether `kubeadm init` was ever begun for the cluster."""
    return any(TAG in port.tags for port in _ports(conn, cluster))


def put(conn: Connection, cluster: str) -> None:
    """Note that `kubeadm init` begins. Raises CloudError when the cluster has no port for its virtual IP."""
    ports = _ports(conn, cluster)
    if not ports:
        raise CloudError(f"port {names.api_port(cluster)} is missing; run: salt-run managed_k8s.infra {cluster}")
    for port in ports:
        conn.network.add_tag(port, TAG)


def _ports(conn: Connection, cluster: str) -> list[Any]:
    found = conn.network.ports(name=names.api_port(cluster))
    return [port for port in found if names.is_of(port, cluster)]
