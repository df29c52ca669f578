"""What a look says of servers' health: asks the gateways' ports and disks, and puts the rest together."""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import time
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from managed_k8s.config.settings import Settings
from managed_k8s.model.cluster import Facts, Observed
from managed_k8s.model.health import DISK, Health
from managed_k8s.names import GATEWAY, ROLES, Node
from managed_k8s.observe import diagnosis, health_signals
from managed_k8s.state import healing
from managed_k8s.state.store import Store

API_PORT = 6443
_TIMEOUT = 2


class Disks(Protocol):
    """What is asked of servers, by another way than their minions."""

    def full(self, names: Collection[str], servers: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
        """Return whether servers have a full disk; nothing about those that cannot be asked."""


class Doctor:
    """Says who is ill. Only looks: what is to be kept of it, the reconciler keeps.

    settings: with defaults. nodes: all of the map.
    """

    def __init__(self, store: Store, settings: Settings, nodes: Collection[Node], disks: Disks) -> None:
        self.store, self.settings, self.nodes, self.disks = store, settings, nodes, disks

    def health(
        self,
        servers: Mapping[str, Mapping[str, Any]],
        observed: Observed,
        kubernetes: Mapping[str, Mapping[str, Any]] | None,
        smoke: bool,
    ) -> Health:
        """Return how the servers are.

        servers: as listing() returns them. observed: the rest of the look. kubernetes: its nodes; None when it cannot
        be asked. smoke: whether the smoke test passed with the servers that there are.
        """
        if observed.smoke is None:
            # It is still being made: what does not work yet is not ill.
            return Health()
        # Before the record is read: what is tried after this is not in it.
        now, fleet = time.time(), observed.fleet
        # What a rollout restarts is away on purpose.
        handled = fleet.condemned.keys() | fleet.busy | fleet.remains | observed.rollout.begun.keys()
        nodes = [node for node in self.nodes if node.id not in handled]
        open_ports = ports([node.id for node in nodes if node.role == GATEWAY], servers)
        found = health_signals.collect(
            nodes,
            servers,
            observed.minions,
            observed.known,
            kubernetes,
            fleet.members,
            open_ports,
            self.disks.full(doubted(open_ports, observed.minions), servers),
            self.store.read(health_signals.SILENT) or {},
        )
        marker = observed.marker
        names = {role: [node.id for node in self.nodes if node.role == role] for role in ROLES}
        return diagnosis.judge(
            found,
            names,
            healing.read(self.store),
            self.settings.healing,
            now,
            api=kubernetes is not None or not (marker and marker.finished),
            smoke=smoke,
        )


def doubted(open_ports: Mapping[str, bool], facts: Mapping[str, Facts]) -> list[str]:
    """Return the gateways that serve while their own word, or their silence, may be that their disk is full."""
    return [
        name for name, answers in open_ports.items() if answers and (name not in facts or DISK in facts[name].ailments)
    ]


def ports(gateways: Collection[str], servers: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
    """Return whether gateways take connections for the API; nothing about those that cannot be reached from here."""
    addresses = {name: servers[name].get("floating_ip") for name in gateways if name in servers}
    known = {name: address for name, address in addresses.items() if address}
    if not known:
        return {}
    with concurrent.futures.ThreadPoolExecutor(len(known)) as pool:
        return dict(zip(known, pool.map(listens, known.values()), strict=True))


def listens(address: str) -> bool:
    """Tell whether something takes connections at an address, on the API's port."""
    with contextlib.suppress(OSError), socket.create_connection((address, API_PORT), _TIMEOUT):
        return True
    return False
