"""What the sources say of each server, from what was asked of them anyway."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from managed_k8s.model.cluster import Facts
from managed_k8s.model.health import DISK, LOW_DISK, Signs
from managed_k8s.model.membership import Member
from managed_k8s.names import GATEWAY, Node

# In the store, by managed_k8s/observe/heartbeat.py: name -> `since`, and the `lease` that was not renewed since then.
SILENT = "silent.json"
# What is free of a disk when a kubelet that is left alone says disk pressure (imagefs.available; evictionHard).
_LOW = 0.15


def collect(
    nodes: Iterable[Node],
    servers: Mapping[str, Mapping[str, Any]],
    facts: Mapping[str, Facts],
    known: Collection[str],
    kubernetes: Mapping[str, Mapping[str, Any]] | None,
    members: Iterable[Member] | None,
    ports: Mapping[str, bool],
    full: Mapping[str, bool],
    silent: Mapping[str, Mapping[str, Any]],
) -> list[Signs]:
    """Return the signs of all servers that ever worked.

    nodes: those to be looked at. servers: as listing() returns them. facts: of minions that answer. known: servers
    whose minion ever answered. kubernetes: its nodes, or None when it cannot be asked. members: of etcd, or None when
    nobody was asked. ports: gateway -> whether it takes connections for the API. full: gateway -> whether its disk is,
    of those that were asked. silent: as the watch keeps it.
    """
    ill = {member.node for member in members or () if not member.healthy and not member.lost}
    found = []
    for node in nodes:
        server, name = servers.get(node.id), node.id
        if server is None or server.get("pending") or name not in known:
            continue
        state = None if kubernetes is None else kubernetes.get(name)
        heard = _since(silent, name, is_silent=_is_silent(state, silent.get(name)) or ports.get(name) is False)
        if node.role == GATEWAY:
            outside = _gateway(ports.get(name), full.get(name))
        else:
            outside = _kubernetes(state, heard, name in ill)
        minion = facts.get(name)
        ailments = _ailments(minion, state) if minion else ()
        found.append(
            Signs(name, node.role, str(server["id"]), str(server["status"]), outside, bool(minion), ailments, heard)
        )
    return found


def _ailments(minion: Facts, state: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return what a minion says of itself. That its disk is rather full counts when Kubernetes calls it full."""
    pressed = state is not None and state.get("disk_pressure") and DISK not in minion.ailments
    if pressed and minion.disk_free is not None and minion.disk_free < _LOW:
        return (*minion.ailments, LOW_DISK)
    return minion.ailments


def _is_silent(state: Mapping[str, Any] | None, note: Mapping[str, Any] | None) -> bool:
    """Tell whether a kubelet is silent; a note about a lease that was renewed since then says nothing."""
    return state is not None and note is not None and bool(state.get("lease")) and note["lease"] == state["lease"]


def _since(silent: Mapping[str, Mapping[str, Any]], name: str, is_silent: bool) -> float | None:
    return float(silent[name]["since"]) if is_silent and name in silent else None


def _gateway(answers: bool | None, full: bool | None) -> str | None:
    if answers is None:
        return None
    if not answers:
        return "it takes no connections for the API"
    return "SSH says that its disk is full" if full else ""


def _kubernetes(state: Mapping[str, Any] | None, heard: float | None, etcd_is_ill: bool) -> str | None:
    if state is None:
        # Not joined yet: nothing is expected of it.
        return None
    found = [
        words
        for words, so in (
            ("Kubernetes says that it is not Ready", not state["ready"]),
            ("its kubelet is silent", state["ready"] and heard is not None),
            ("Kubernetes says that its disk is full", bool(state.get("disk_pressure"))),
            ("the other masters say that its etcd is ill", etcd_is_ill),
        )
        if so
    ]
    return ", ".join(found)
