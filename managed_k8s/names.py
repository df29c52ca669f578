"""Names: a minion's id says which cluster and role it has, and only the Salt master gives ids."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

GATEWAY, MASTER, WORKER = "gateway", "master", "worker"
ROLES = (GATEWAY, MASTER, WORKER)
# In servers' metadata.
CLUSTER, ROLE = "managed-k8s", "managed-k8s-role"
# In the metadata of volumes, snapshots and backups: written by Cinder CSI, whose --cluster is the cluster's name.
CSI_CLUSTER = "cinder.csi.openstack.org/cluster"

# A cluster's name is the start of every server's name, which Kubernetes takes as the node's name (RFC 1123 label).
_CLUSTER = r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?"
_NODE = re.compile(rf"(?P<cluster>{_CLUSTER})-(?P<role>{'|'.join(ROLES)})-(?P<number>[1-9][0-9]{{0,4}})")


@dataclasses.dataclass(frozen=True, order=True)
class Node:
    """A server of a cluster; its name is its minion id and its Kubernetes node name."""

    cluster: str
    role: str
    number: int

    @property
    def id(self) -> str:
        """Return the name, like `demo-master-1`."""
        return f"{self.cluster}-{self.role}-{self.number}"


def parse(minion_id: str) -> Node | None:
    """Return whose node a minion id names, or None when it names none.

    minion_id: like `demo-master-1`.
    """
    match = _NODE.fullmatch(minion_id)
    return match and Node(match["cluster"], match["role"], int(match["number"]))


def role(minion_id: str) -> str:
    """Return the role that a minion id names; empty when it names none."""
    node = parse(minion_id)
    return node.role if node else ""


def is_master(minion_id: str) -> bool:
    """Tell whether a minion id names a master."""
    return role(minion_id) == MASTER


def is_gateway(minion_id: str) -> bool:
    """Tell whether a minion id names a gateway."""
    return role(minion_id) == GATEWAY


def is_cluster(name: str) -> bool:
    """Tell whether this can be a cluster's name: at most 40 lower-case letters, digits and dashes, a letter first."""
    return re.fullmatch(_CLUSTER, name) is not None


def tag(cluster: str) -> str:
    """Return the tag that marks what belongs to a cluster in OpenStack."""
    return f"managed-k8s:{cluster}"


def is_of(item: Any, cluster: str) -> bool:
    """Tell whether a Neutron object carries the cluster's tag: the first word of its description."""
    return (item.description or "").split(" ")[0] == tag(cluster)


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
    return {cluster, api_port(cluster), *(group(cluster, role) for role in ROLES)}
