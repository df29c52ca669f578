"""The servers of a cluster as the cloud lists them."""

from __future__ import annotations

from typing import Any

from openstack.connection import Connection

from managed_k8s import names
from managed_k8s.openstack.server import is_pending


def listing(conn: Connection, cluster: str) -> dict[str, dict[str, Any]]:
    """Return the cluster's servers by name: id, role, status, address (fixed), floating_ip, pending (not complete yet).

    One request, however many servers there are (a page of them, on clouds that limit pages).
    """
    found = {}
    for server in conn.compute.servers(details=True):
        node = names.parse(server.name)
        if node and node.cluster == cluster and (server.metadata or {}).get(names.CLUSTER) == cluster:
            found[server.name] = {
                "id": server.id,
                "role": node.role,
                "status": server.status,
                "pending": is_pending(server),
                **addresses(server),
            }
    return found


def addresses(server: Any) -> dict[str, str | None]:
    """Return a server's first fixed address and its floating IP."""
    every = [entry for entries in (server.addresses or {}).values() for entry in entries]
    by_kind = {kind: [e["addr"] for e in every if e.get("OS-EXT-IPS:type") == kind] for kind in ("fixed", "floating")}
    return {"address": next(iter(by_kind["fixed"]), None), "floating_ip": next(iter(by_kind["floating"]), None)}
