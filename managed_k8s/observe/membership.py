"""Which servers come and go: from what the cloud, Kubernetes, etcd and the operator say, without asking them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from managed_k8s import names
from managed_k8s.kube.node_annotations import REMOVAL
from managed_k8s.model.membership import Fleet, Member
from managed_k8s.state.change_requests import ASKED, COMPLETE, LEFT_MAP, Intent

Servers = Mapping[str, Mapping[str, Any]]
Nodes = Mapping[str, Mapping[str, Any]]


def compose(
    wanted: Collection[str],
    servers: Servers,
    answering: Collection[str],
    busy: Collection[str],
    nodes: Nodes,
    members: Iterable[Mapping[str, Any]] | None,
    intent: Intent,
) -> Fleet:
    """Return what comes and goes.

    wanted: names in cluster.map. servers: as listing() returns them. answering: minions that do. busy: servers that
    somebody works on. nodes: Kubernetes's, as observe_kubernetes.nodes() returns them. members: etcd's, as the module
    says them, or None.
    """
    unfinished = {name for name, server in servers.items() if server.get("pending")}
    states = intent.servers()
    absent = {name for name in states if name not in servers or name in unfinished}
    return Fleet(
        asked=frozenset(name for name in absent if states[name] == ASKED and name in wanted),
        lost=frozenset(name for name in absent if states[name] == COMPLETE),
        unfinished=frozenset(unfinished),
        busy=frozenset(busy),
        contradicted=frozenset(name for name in answering if name not in servers),
        condemned=_condemned(wanted, servers, intent),
        unwanted=frozenset(_unwanted(wanted, servers, unfinished, intent)),
        remains=frozenset(name for name, node in nodes.items() if _is_left(name, node, servers)),
        drained=frozenset(name for name, node in nodes.items() if node["drained"]),
        cordoned=frozenset(n for n, node in nodes.items() if node["cordoned_by"] == REMOVAL or node["drained"]),
        members=None if members is None else tuple(member(each, servers) for each in members),
        paused=intent.paused(),
    )


def _condemned(wanted: Collection[str], servers: Servers, intent: Intent) -> dict[str, str]:
    found = {}
    for name, entry in intent.condemned().items():
        stays = entry["why"] == LEFT_MAP and name in wanted
        # A server of that name that was made since then is another one.
        succeeded = name in servers and servers[name]["id"] != entry["id"]
        if not stays and not succeeded:
            found[name] = str(entry["why"])
    return found


def _unwanted(wanted: Collection[str], servers: Servers, unfinished: Collection[str], intent: Intent) -> Iterable[str]:
    condemned = intent.condemned()
    return (name for name in servers if name not in wanted and name not in unfinished and name not in condemned)


def _is_left(name: str, node: Mapping[str, Any], servers: Servers) -> bool:
    """Tell whether a Node is of a server that is gone: OpenStack does not list it, and its kubelet is silent."""
    if node["ready"] or names.parse(name) is None:
        return False
    return is_without_server(node, servers[name]["id"] if name in servers else None)


def is_without_server(node: Mapping[str, Any], server: str | None) -> bool:
    """Tell whether a Node is of no server, or of another one than that of its name.

    node: as observe_kubernetes.nodes() returns it. server: Nova's id of the server of that name, or None.
    """
    # openstack:///ID, or openstack://REGION/ID (cloud-provider-openstack, pkg/openstack/instances.go)
    known = (node["provider_id"] or "").rpartition("/")[2]
    return server is None or bool(known and known != server)


def member(told: Mapping[str, Any], servers: Servers) -> Member:
    """Return a member of etcd as the module tells of it, with the server that is at its address."""
    at = [name for name, server in servers.items() if server["address"] and server["address"] in told["addresses"]]
    return Member(
        id=str(told["id"]),
        node=at[0] if at else str(told["name"]),
        healthy=bool(told["healthy"]),
        voter=bool(told["voter"]),
        lost=not at,
    )


def concerns_etcd(fleet: Fleet) -> bool:
    """Tell whether etcd's members matter now: a master comes, goes or is gone."""
    concerned = {*fleet.condemned, *fleet.remains, *fleet.lost, *fleet.asked}
    return any(f"-{names.MASTER}-" in name for name in concerned)
