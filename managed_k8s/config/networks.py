"""Contradictions between the addresses in a cluster's settings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network

SERVERS, PODS, SERVICES = "openstack.network_cidr", "kubernetes.pod_cidr", "kubernetes.service_cidr"
# Prefix lengths: room for the router, DHCP and some servers; for four nodes; what kube-apiserver and
# kube-controller-manager take as most.
_PREFIXES = {SERVERS: (8, 28), PODS: (8, 22), SERVICES: (12, 24)}


def problems(
    networks: Mapping[str, IPv4Network], virtual_ip: IPv4Address, outside: Iterable[tuple[str, IPv4Address]]
) -> Iterable[str]:
    """Yield a sentence for every contradiction.

    networks: of SERVERS, PODS and SERVICES. outside: what servers must reach outside of the cluster, by its setting.
    """
    for key, network in networks.items():
        yield from _problems_of_one(key, network)
    for one, other in itertools.combinations(networks, 2):
        if networks[one].overlaps(networks[other]):
            yield f"{one} {networks[one]} overlaps {other} {networks[other]}; choose separate ranges"
    servers = networks[SERVERS]
    # A network that is too small has no router's address.
    if servers.prefixlen <= _PREFIXES[SERVERS][1]:
        yield from _virtual_ip_problems(virtual_ip, servers)
    for (key, address), path in itertools.product(outside, (PODS, SERVICES)):
        if address in networks[path]:
            yield f"{key} {address} is in {path} {networks[path]}, so servers would not reach it; choose another"


def _problems_of_one(key: str, network: IPv4Network) -> Iterable[str]:
    least, most = _PREFIXES[key]
    if not least <= network.prefixlen <= most:
        size = "small" if network.prefixlen > most else "large"
        yield f"{key} {network} is too {size}; it must be between /{least} and /{most}"
    if network.is_loopback or network.is_link_local or network.is_multicast or network.is_unspecified:
        yield f"{key} {network} is reserved; choose a private one, like 10.30.0.0/24"


def _virtual_ip_problems(address: IPv4Address, network: IPv4Network) -> Iterable[str]:
    if address not in network or address in (network[0], network[1], network[-1]):
        yield (
            f"openstack.virtual_ip {address} must be in {SERVERS} {network}, "
            f"and not its router's {network[1]}, first or last address"
        )
