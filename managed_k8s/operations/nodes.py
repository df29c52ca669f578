"""What an operator can ask for about single servers: replace, drain, reboot them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from managed_k8s import names
from managed_k8s.cluster import Cluster
from managed_k8s.errors import RequestError
from managed_k8s.kube import access, node_annotations
from managed_k8s.model.cluster import Snapshot
from managed_k8s.names import GATEWAY
from managed_k8s.operations.clusters import choose
from managed_k8s.operations.reconcile import enqueue
from managed_k8s.operations.upgrade import under_way
from managed_k8s.plan import scaling
from managed_k8s.state.change_requests import Intent
from managed_k8s.state.rollout import Record

Say = Callable[[str], None]


def replace(opts: Mapping[str, Any], node: str, reason: str) -> dict[str, Any]:
    """Have a server removed, as gently as it can be, and made anew, in the background.

    Raises RequestError when the cluster would lose its quorum or its last gateway by that.
    """
    found = _cluster(opts, node)
    if node not in {each.id for each in found.nodes}:
        raise RequestError(f"node: {node} is not in cluster.map, so it would not come back; to remove it: reconcile")
    seen, servers = found.observer(ask_members=True).look(), found.cloud.servers()
    if node not in servers:
        Intent(found.store).ask([node])
    else:
        refused = scaling.refusal(seen.desired, seen.observed, node)
        if refused:
            raise RequestError(f"{node} is not replaced: {refused}")
        Intent(found.store).condemn({node: servers[node]["id"]}, reason)
    return enqueue(opts, node, f"replace: {reason}") | {"node": node}


def drain(opts: Mapping[str, Any], node: str, say: Say) -> dict[str, Any]:
    """Cordon a node and have its pods leave. Raises DrainError when some did not in time: they may not, or cannot."""
    found, _ = _cluster_and_state(opts, node)
    return {"node": node, "cordoned": found.kube.drain_for_operator(node, say)}


def uncordon(opts: Mapping[str, Any], node: str) -> dict[str, Any]:
    """Undo drain(). Raises RequestError when somebody else cordoned the node."""
    found, state = _cluster_and_state(opts, node)
    if not state["unschedulable"]:
        return {"node": node, "changed": False}
    if state["cordoned_by"] == node_annotations.REMOVAL:
        raise RequestError(f"{node} is being removed; put it back into cluster.map to keep it")
    if state["cordoned_by"] == node_annotations.MAINTENANCE:
        raise RequestError(f"{node} is being upgraded or rebooted, and takes pods again by itself after that")
    if state["cordoned_by"] != node_annotations.OPERATOR:
        raise RequestError(f"{node} was not cordoned by managed_k8s.drain; if you know why: kubectl uncordon {node}")
    return {"node": node, "changed": found.kube.uncordon_for_operator(node)}


def _cluster_and_state(opts: Mapping[str, Any], node: str) -> tuple[Cluster, dict[str, Any]]:
    """Return the cluster that this is a node of, and what its API says of the node. Raises RequestError."""
    found = _cluster(opts, node)
    if not access.is_good(found.store):
        raise RequestError(f"{found.name} has no kubeconfig yet; see salt-run managed_k8s.status")
    nodes = found.kube.nodes()
    if node not in nodes:
        there = ", ".join(sorted(nodes)) or "none"
        raise RequestError(f"node: {node} is no node of {found.name}; there are {there}")
    return found, nodes[node]


def _cluster(opts: Mapping[str, Any], node: str) -> Cluster:
    """Return the cluster of a node. Raises RequestError when the name is no node's."""
    return Cluster(opts, choose(opts, cluster_name(node)))


def cluster_name(node: str) -> str:
    """Return the name of a node's cluster. Raises RequestError when the name is no node's."""
    parsed = names.parse(node) if isinstance(node, str) else None
    if parsed is None:
        raise RequestError(f"node: {node!r} is no node's name; write it like demo-worker-1")
    return parsed.cluster


def reboot(opts: Mapping[str, Any], cluster: str | None, node: str | None, packages: bool) -> dict[str, Any]:
    """Have servers drained and rebooted, one after the other, in the background.

    node: only this one. packages: whether Debian's packages are upgraded before.
    Raises RequestError when something speaks against it.
    """
    name = choose(opts, cluster_name(node) if node is not None else cluster)
    found = Cluster(opts, name)
    look = found.observer().look()
    there = [server.id for server in found.nodes if server.id in look.observed.servers]
    problems = _reboot_problems(look, there, node)
    if problems:
        raise RequestError(f"nothing of {name} is rebooted:\n" + "\n".join(f"- {problem}" for problem in problems))
    chosen = there if node is None else [node]
    boots = {server: look.observed.minions[server].boot for server in chosen}
    Record(found.store).ask_maintenance(boots, packages)
    enqueue(opts, name, "servers are to be rebooted")
    return {"cluster": name, "servers": chosen, "packages": packages}


def _reboot_problems(look: Snapshot, there: list[str], node: str | None) -> list[str]:
    problems = []
    if node is not None and node not in there:
        problems.append(f"node: {node} has no server, or is not in cluster.map; there are {', '.join(there)}")
    if under_way(look):
        problems.append(f"an upgrade to {under_way(look)} is under way; follow it: salt-run managed_k8s.wait")
    if look.observed.ready is None:
        problems.append("the Kubernetes API cannot be asked; see salt-run managed_k8s.status")
    minions = look.observed.minions
    asked = [node] if node in there else there
    silent = [name for name in asked if name not in minions or minions[name].boot is None]
    problems += [f"{name}: its minion does not say since when the server runs" for name in silent]
    gateways = [name for name in there if (parsed := names.parse(name)) and parsed.role == GATEWAY]
    if len(gateways) == 1 and node in (None, gateways[0]):
        problems.append(
            f"{gateways[0]} is the only gateway: nobody would reach the API meanwhile; add another one to cluster.map"
        )
    return problems
