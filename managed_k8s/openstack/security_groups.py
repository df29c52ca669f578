"""Who may talk to whom: the security group rules of each role."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from managed_k8s import paths
from managed_k8s.config.sections import OpenStack
from managed_k8s.config.settings import Settings
from managed_k8s.names import GATEWAY, MASTER, ROLES, WORKER

API, SSH, KUBELET = 6443, 22, 10250
ETCD = (2379, 2380)
VRRP = "112"
# What nodes' networks tell each other, by the setting kubernetes.cni. For those that an operator brings: VXLAN of
# Cilium and Calico, Geneve, Cilium's health checks, Calico's Typha.
NETWORKS = {
    "flannel": (("udp", 8472),),
    "none": (("udp", 8472), ("udp", 4789), ("udp", 6081), ("tcp", 4240), ("tcp", 5473)),
}


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


def of_role(role: str, settings: Settings) -> frozenset[Rule]:
    """Return what may reach servers of a role.

    settings: the whole settings.
    """
    if role == GATEWAY:
        return frozenset(_gateway(settings.openstack))
    return frozenset([*_node(settings.kubernetes.cni), *(_master() if role == MASTER else ())])


def digest(settings: Settings) -> str:
    """Return what changes with these rules, and with all that settings say of the cluster's OpenStack.

    settings: the whole settings.
    """
    words = {role: sorted(rule.words for rule in of_role(role, settings)) for role in ROLES}
    return paths.digest([settings.openstack.model_dump(mode="json"), words])


def _tcp(remotes: Iterable[str], first: int, last: int | None = None) -> Iterable[Rule]:
    return (Rule("tcp", (first, last or first), remote) for remote in remotes)


def _gateway(openstack: OpenStack) -> Iterable[Rule]:
    # The cluster's own servers reach the API through the virtual IP.
    yield from _tcp([*openstack.api_allowed_cidrs, openstack.network_cidr], API)
    yield from _tcp(openstack.ssh_allowed_cidrs, SSH)
    yield Rule(VRRP, None, GATEWAY)
    # Fragmentation needed, and ping among the cluster's servers.
    yield from (Rule("icmp", None, role) for role in ROLES)


def _node(cni: str) -> Iterable[Rule]:
    yield from _tcp([GATEWAY], SSH)
    # The API server, and what runs in pods and asks every kubelet, like metrics-server and Prometheus.
    yield from _tcp([MASTER, WORKER], KUBELET)
    for protocol, port in NETWORKS[cni]:
        yield from (Rule(protocol, (port, port), role) for role in (MASTER, WORKER))
    yield from (Rule("icmp", None, role) for role in ROLES)


def _master() -> Iterable[Rule]:
    # Pods reach the API as service `kubernetes`, which leads to the masters themselves.
    yield from _tcp(ROLES, API)
    yield from _tcp([MASTER], *ETCD)
