"""What belongs to a cluster: names, and the mark that everything carries which OpenStack lets us write on."""

from __future__ import annotations

from typing import Any

from managed_k8s import names

# In servers' metadata.
CLUSTER, ROLE = "managed-k8s", "managed-k8s-role"
# In the metadata of volumes, snapshots and backups: written by Cinder CSI, whose --cluster is the cluster's name.
CSI_CLUSTER = "cinder.csi.openstack.org/cluster"


def is_of(item: Any, cluster: str) -> bool:
    """Tell whether a Neutron object carries the cluster's tag: the first word of its description."""
    return (item.description or "").split(" ")[0] == names.tag(cluster)


def api_port(cluster: str) -> str:
    """Return the name of the port that holds the virtual IP."""
    return f"{cluster}-api"


def group(cluster: str, role: str) -> str:
    """Return the name of the security group, and of the server group, of a role."""
    return f"{cluster}-{role}"


def secret(cluster: str) -> str:
    """Return the name of the cluster's key pair and application credential, which the whole account sees."""
    return f"managed-k8s-{cluster}"


def trial(cluster: str) -> str:
    """Return the name of the application credential that access rules are tried with."""
    return f"{secret(cluster)}-trial"


def made_names(cluster: str) -> set[str]:
    """Return the names of all objects that the infrastructure of a cluster consists of."""
    return {cluster, api_port(cluster), *(group(cluster, role) for role in names.ROLES)}
