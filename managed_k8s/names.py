"""Names: a minion's id says which cluster and role it has, and only the Salt master gives ids."""

from __future__ import annotations

import dataclasses
import re

GATEWAY, MASTER, WORKER = "gateway", "master", "worker"
ROLES = (GATEWAY, MASTER, WORKER)

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


def is_master(minion_id: str) -> bool:
    """Tell whether a minion id names a master."""
    node = parse(minion_id)
    return node is not None and node.role == MASTER


def is_gateway(minion_id: str) -> bool:
    """Tell whether a minion id names a gateway."""
    node = parse(minion_id)
    return node is not None and node.role == GATEWAY


def is_cluster(name: str) -> bool:
    """Tell whether this can be a cluster's name: at most 40 lower-case letters, digits and dashes, a letter first."""
    return re.fullmatch(_CLUSTER, name) is not None


def tag(cluster: str) -> str:
    """Return the tag that marks what belongs to a cluster in OpenStack."""
    return f"managed-k8s:{cluster}"
