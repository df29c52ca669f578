"""Who may talk to whom: the security group rules of each role."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from managed_k8s.naming import GATEWAY, MASTER, ROLES, WORKER

API, SSH, KUBELET, VXLAN = 6443, 22, 10250, 8472
ETCD = (2379, 2380)
VRRP = "112"


@dataclasses.dataclass(frozen=True, order=True)
class Rule:
    """One ingress rule. `remote` is a CIDR or the role whose servers may."""

    protocol: str
    ports: tuple[int, int] | None
    remote: str

    @property
    def words(self) -> str:
        """Return it like `tcp 2379-2380 from master`."""
        ports = "" if self.ports is None else " " + "-".join(str(port) for port in sorted(set(self.ports)))
        return f"{self.protocol}{ports} from {self.remote}"


def of_role(role: str, openstack: Mapping[str, Any]) -> frozenset[Rule]:
    """Return what may reach servers of a role.

    openstack: that part of the settings.
    """
    return frozenset({GATEWAY: _gateway, MASTER: _master, WORKER: _worker}[role](openstack))


def _tcp(remotes: Iterable[str], first: int, last: int | None = None) -> Iterable[Rule]:
    return (Rule("tcp", (first, last or first), remote) for remote in remotes)


def _gateway(openstack: Mapping[str, Any]) -> Iterable[Rule]:
    # The cluster's own servers reach the API through the virtual IP.
    yield from _tcp([*openstack["api_allowed_cidrs"], openstack["network_cidr"]], API)
    yield from _tcp(openstack["ssh_allowed_cidrs"], SSH)
    yield Rule(VRRP, None, GATEWAY)
    # Fragmentation needed, and ping among the cluster's servers.
    yield from (Rule("icmp", None, role) for role in ROLES)


def _node() -> Iterable[Rule]:
    yield from _tcp([GATEWAY], SSH)
    yield from _tcp([MASTER], KUBELET)
    yield from (Rule("udp", (VXLAN, VXLAN), role) for role in (MASTER, WORKER))
    yield from (Rule("icmp", None, role) for role in ROLES)


def _master(openstack: Mapping[str, Any]) -> Iterable[Rule]:
    yield from _node()
    # Pods reach the API as service `kubernetes`, which leads to the masters themselves.
    yield from _tcp(ROLES, API)
    yield from _tcp([MASTER], *ETCD)


def _worker(openstack: Mapping[str, Any]) -> Iterable[Rule]:
    return _node()
