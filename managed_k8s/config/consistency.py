"""Contradictions between a cluster's settings, its servers in cluster.map, and the profiles and providers they use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from managed_k8s import names
from managed_k8s.config.cluster_map import Tables
from managed_k8s.config.settings import Settings

MASTERS_ALLOWED = (1, 3, 5)
DRIVER = "openstack"
# What a provider may say; docs/driver.md explains each.
PROVIDER_KEYS = {
    "driver", "cloud", "minion", "deploy", "keysize",
    "minion_archive", "minion_archive_sha256", "minion_index_url", "minion_requirements",
}  # fmt: skip
# Addresses that Neutron itself takes of a subnet, and the virtual IP.
_OTHERS_ADDRESSES = 8
# kube-controller-manager gives each node a network of this size.
_NODE_PREFIX = 24


def of_counts(cluster: str, settings: Settings | None, servers: Collection[str]) -> list[str]:
    """Return a sentence for every number of servers that the cluster cannot work with."""
    roles = [node.role for node in map(names.parse, servers) if node]
    problems = []
    masters = roles.count(names.MASTER)
    if masters not in MASTERS_ALLOWED:
        problems.append(
            f"cluster.map: {cluster} has {masters} masters; etcd needs 1, 3 or 5 for a majority: "
            f"name them {cluster}-master-1, {cluster}-master-2, ..."
        )
    if names.GATEWAY not in roles:
        problems.append(f"cluster.map: {cluster} has no gateway; add {cluster}-gateway-1 (two for availability)")
    return problems + (_room(cluster, settings, roles) if settings else [])


def _room(cluster: str, settings: Settings, roles: list[str]) -> list[str]:
    network, pods = IPv4Network(settings.openstack.network_cidr), IPv4Network(settings.kubernetes.pod_cidr)
    nodes = len(roles) - roles.count(names.GATEWAY)
    problems = []
    if len(roles) > network.num_addresses - _OTHERS_ADDRESSES:
        problems.append(f"openstack.network_cidr {network} is too small for the {len(roles)} servers of {cluster}")
    if nodes > 2 ** (_NODE_PREFIX - pods.prefixlen):
        problems.append(
            f"kubernetes.pod_cidr {pods} is too small for the {nodes} masters and workers of {cluster}: "
            f"each takes a /{_NODE_PREFIX}"
        )
    return problems


def of_server(cluster: str, settings: Settings | None, name: str, keys: Mapping[str, Any], where: str) -> list[str]:
    """Return a sentence for all that keeps a server from being the node that its name says.

    keys: valid ones of a profile. where: the beginning of each sentence.
    """
    node = names.parse(name)
    if node is None:
        return [f"{name}: must be named {cluster}-<gateway|master|worker>-<number>, as its profile is of {cluster}"]
    if keys.get("cluster") != cluster:
        return [f"{where}: cluster is {keys.get('cluster')!r}; the servers it is used for are of {cluster}"]
    first = keys["networks"][0]
    if first["network"] != cluster:
        return [f"{where}: networks must begin with the cluster's own, `- network: {cluster}`"]
    return [f"{where}: {problem}" for problem in _first_port(node, settings, first)]


def _first_port(node: names.Node, settings: Settings | None, port: Mapping[str, Any]) -> Iterable[str]:
    group = names.group(node.cluster, node.role)
    if group not in port.get("security_groups", ()):
        yield f"networks.0.security_groups: must have {group}, or a {node.role} is not reached by the others"
    api = {"port": names.api_port(node.cluster)}
    address = settings.openstack.virtual_ip if settings else None
    pairs = port.get("allowed_address_pairs", ())
    if node.role == names.GATEWAY and api not in pairs and not (address and address in pairs):
        yield (
            f"networks.0.allowed_address_pairs: must have {{port: {api['port']}}}, or no gateway may answer at the "
            "API's address"
        )
    if settings and "fixed_ip" in port:
        network = IPv4Network(settings.openstack.network_cidr)
        fixed = IPv4Address(port["fixed_ip"])
        if fixed not in network or str(fixed) == address:
            yield f"networks.0.fixed_ip: {fixed} must be in openstack.network_cidr {network} and not the virtual IP"


def of_provider(settings: Settings | None, keys: Mapping[str, Any], providers: Tables, where: str) -> list[str]:
    """Return a sentence for all that is wrong with the provider that a server is made through."""
    alias = str(keys.get("provider")).partition(":")[0]
    provider = providers.good.get(alias)
    if provider is None:
        return [f"{where}: provider: {alias!r} is in no file of cloud.providers.d; {providers.missing(alias)}"]
    problems = provider_problems(alias, provider)
    minions = [table for table in (provider.get("minion"), keys.get("minion")) if isinstance(table, dict)]
    deploy = keys.get("deploy", provider.get("deploy", True))
    if deploy and not any(minion.get("master") for minion in minions):
        problems.append(f"provider {alias}: minion.master: is missing, the Salt master's address as servers reach it")
    cloud = settings.openstack.cloud if settings else provider.get("cloud")
    if provider.get("driver") == DRIVER and provider.get("cloud") != cloud:
        problems.append(
            f"provider {alias}: cloud is {provider.get('cloud')!r}, but openstack.cloud of the settings is {cloud!r}: "
            "both must name the same cloud of clouds.yaml"
        )
    return problems


def provider_problems(alias: str, provider: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every key of a provider of ours that is missing, unknown or of the wrong kind."""
    if provider.get("driver") != DRIVER:
        return [f"provider {alias}: driver is {provider.get('driver')!r}; it must be {DRIVER}"]
    problems = [
        f"provider {alias}: {key}: no such key; there are {', '.join(sorted(PROVIDER_KEYS))}. "
        "What servers are made from goes into their profile"
        for key in sorted(map(str, provider.keys() - PROVIDER_KEYS - {"profiles", "provider"}))
    ]
    if not isinstance(provider.get("cloud"), str):
        problems.append(f"provider {alias}: cloud: {provider.get('cloud')!r} must be a name in clouds.yaml")
    if not isinstance(provider.get("minion", {}), dict):
        problems.append(f"provider {alias}: minion: must be a table, like {{master: 192.0.2.1}}")
    return problems
