"""Running the steps that make and remove servers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Protocol

from managed_k8s import names
from managed_k8s.config.settings import Settings
from managed_k8s.execute.common import Action, connected_master
from managed_k8s.minions.jobs import JobError, Jobs
from managed_k8s.model.cluster import Snapshot
from managed_k8s.model.steps import CREATE, DRAIN, KINDS, LEAVE, REMOVE, UNCORDON
from managed_k8s.state.change_requests import Intent
from managed_k8s.state.store import Store

_JOB = 90
_NO_HELPER = "no other master is connected to speak to etcd through"


class Cloud(Protocol):
    """What is asked of OpenStack."""

    def make(self, name: str, limit: float) -> None:
        """Make the server of this name in cluster.map, whole or not at all; `limit` in seconds."""

    def stop(self, name: str) -> None:
        """Power a server off that is to go, and return once it certainly is; what cannot be powered off is removed."""

    def remove(self, name: str) -> None:
        """Remove a server with its ports and addresses; one that is gone is fine."""


class Kube(Protocol):
    """What is done through the cluster's API."""

    def drain(self, node: str, limit: float, say: Callable[[str], None]) -> None:
        """Cordon a node, have its pods leave, by force after `limit` seconds, and note that they did."""

    def free(self, node: str, say: Callable[[str], None]) -> None:
        """Let go of what a node holds that certainly does not run, and note that."""

    def uncordon(self, node: str) -> None:
        """Undo a removal's cordon."""

    def delete_node(self, node: str) -> None:
        """Delete a Node; one that is not there is fine."""


class Turnover:
    """Makes and removes the servers of one cluster.

    say: gets (subject, words) of progress within a step.
    """

    def __init__(
        self, store: Store, settings: Settings, cloud: Cloud, jobs: Jobs, kube: Kube, say: Callable[[str, str], None]
    ) -> None:
        self.store, self.settings, self.cloud, self.jobs, self.kube, self.say = store, settings, cloud, jobs, kube, say
        self.intent = Intent(store)

    def actions(self) -> dict[str, Action]:
        """Return what runs a step, by its kind."""
        return {
            DRAIN: self._drain,
            LEAVE: self._leave,
            REMOVE: self._remove,
            CREATE: self._create,
            UNCORDON: self._uncordon,
        }

    def _create(self, name: str, snapshot: Snapshot) -> None:
        self.cloud.make(name, KINDS[CREATE].limit)

    def _drain(self, name: str, snapshot: Snapshot) -> None:
        def say(words: str) -> None:
            self.say(name, words)

        if (snapshot.observed.ready or {}).get(name):
            self.kube.drain(name, self.settings.maintenance.drain_seconds, say)
            return
        # What it holds may be given to others only once it cannot write any more.
        if name in snapshot.observed.fleet.condemned and name in snapshot.observed.servers:
            self.cloud.stop(name)
        self.kube.free(name, say)

    def _leave(self, name: str, snapshot: Snapshot) -> None:
        fleet = snapshot.observed.fleet
        going = [
            member
            for member in fleet.members or ()
            if name in (member.node, member.id) and (member.lost or name in fleet.condemned)
        ]
        # Another master, that stays.
        helper = connected_master(snapshot, _NO_HELPER, but={name, *fleet.condemned})
        self.intent.commit(name)
        if name in snapshot.observed.minions and name in fleet.condemned:
            # An API server whose etcd is gone answers with errors until the gateways notice; one that ends does not.
            with contextlib.suppress(JobError):
                self.jobs.run(name, "managed_k8s_control_plane.stop", limit=_JOB)
        for member in going:
            self.jobs.run(helper, "managed_k8s_etcd.remove_member", member.id, limit=_JOB)

    def _remove(self, name: str, snapshot: Snapshot) -> None:
        observed = snapshot.observed
        wanted = name in {node.id for node in snapshot.desired.nodes}
        api = observed.ready is not None and not names.is_gateway(name)
        if name in observed.fleet.condemned:
            self.intent.commit(name)
            if name in observed.minions and names.is_gateway(name):
                # It says good-bye to the other gateways, which take over at once.
                with contextlib.suppress(JobError):
                    self.jobs.run(name, "service.stop", "keepalived", limit=_JOB)
            if api:
                self.kube.delete_node(name)
            self.cloud.remove(name)
            self.jobs.forget(name)
        elif name not in observed.servers and not wanted:
            self.jobs.forget(name)
        # Also a second time: the kubelet may have made it anew in between.
        if api:
            self.kube.delete_node(name)
        if name in observed.fleet.condemned or not wanted:
            self.intent.removed(name, again=wanted)

    def _uncordon(self, name: str, snapshot: Snapshot) -> None:
        if names.is_master(name):
            self.jobs.run(name, "managed_k8s_control_plane.start", limit=_JOB)
        self.kube.uncordon(name)
