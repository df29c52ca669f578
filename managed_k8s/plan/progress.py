"""How far a cluster is: a row for each server, one for each thing that is the cluster's as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from managed_k8s.model.cluster import Desired, Observed
from managed_k8s.model.steps import ACCESS, ADDONS, RESOURCES, SMOKE
from managed_k8s.names import GATEWAY, Node

# What a node may be to Kubernetes; `joined` is known of a member while the API cannot be asked.
READY, NOT_READY, JOINED, NOT_JOINED, NO_NODE = "Ready", "NotReady", "joined", "not joined", "-"


def servers(desired: Desired, observed: Observed) -> list[dict[str, Any]]:
    """Return a row for each server that should be: name, server, minion, converged, kubernetes."""
    rows = []
    for node in desired.nodes:
        facts = observed.minions.get(node.id)
        rows.append(
            {
                "name": node.id,
                "server": observed.servers.get(node.id, "missing"),
                "minion": "connected" if facts else "silent",
                "converged": bool(facts and facts.revision == desired.revisions[node.id]),
                "kubernetes": _kubernetes(node, observed),
            }
        )
    return rows


def _kubernetes(node: Node, observed: Observed) -> str:
    if node.role == GATEWAY:
        return NO_NODE
    if observed.ready is not None and node.id in observed.ready:
        return READY if observed.ready[node.id] else NOT_READY
    facts = observed.minions.get(node.id)
    return JOINED if facts and facts.is_member else NOT_JOINED


def parts(desired: Desired, observed: Observed) -> list[dict[str, Any]]:
    """Return a row for each thing of the cluster as a whole: kind (of the step that makes it), name, done."""
    marker = observed.marker
    done = {
        ACCESS: observed.access and marker is not None and marker.finished,
        ADDONS: observed.addons,
        RESOURCES: observed.resources == desired.resources,
        SMOKE: observed.smoke == desired.smoke,
    }
    names = {ACCESS: "access to the API", ADDONS: "add-ons", RESOURCES: "~/.managed_k8s", SMOKE: "smoke test"}
    return [{"kind": kind, "name": name, "done": done[kind]} for kind, name in names.items()]


def count(rows: Sequence[Mapping[str, Any]], whole: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """Return how many steps are done and how many there are, from nothing to a cluster that is as it should be.

    rows: as servers() returns them. whole: as parts() does.
    """
    marks = [row["converged"] for row in rows]
    marks += [row["kubernetes"] != NOT_JOINED for row in rows if row["kubernetes"] != NO_NODE]
    marks += [part["done"] for part in whole]
    return sum(map(bool, marks)), len(marks)
