"""Looking at a cluster: Nova, Salt's minions and Kubernetes, each asked once and all at the same time."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

from managed_k8s import names, paths
from managed_k8s.config.settings import Settings
from managed_k8s.kube import access
from managed_k8s.minions import pillar as node_pillar
from managed_k8s.minions.jobs import Answer, Jobs, is_unknown_function, sync_modules
from managed_k8s.model.certificates import CertificateExpiry
from managed_k8s.model.cluster import PARTIAL, Desired, Facts, Marker, Observed, Snapshot
from managed_k8s.model.kubernetes import KubernetesState
from managed_k8s.model.membership import Fleet, Member
from managed_k8s.model.rollout import Rollout, Versions
from managed_k8s.observe import membership
from managed_k8s.observe import rollout as upgrading
from managed_k8s.observe.health import Disks, Doctor
from managed_k8s.openstack import security_groups
from managed_k8s.state.change_requests import Intent
from managed_k8s.state.store import Store

FACTS, MEMBERS = "managed_k8s_facts.get", "managed_k8s_etcd.members"
_FACTS_LIMIT, _SILENTS_LIMIT, _SYNC_LIMIT = 15, 10, 60

Servers = Mapping[str, Mapping[str, Any]]


class Cloud(Protocol):
    """What is asked of OpenStack."""

    def servers(self) -> Servers:
        """Return the cluster's servers, as managed_k8s.cloud.servers.listing does."""

    def is_begun(self) -> bool:
        """Tell whether a control plane was ever begun."""

    def begin(self) -> None:
        """Note that one is begun."""

    def public_address(self) -> str | None:
        """Return the floating IP of the API."""

    def is_busy(self, name: str) -> bool:
        """Tell whether somebody makes or removes the server of this name right now."""


class Api(Protocol):
    """What is asked of the cluster's API."""

    def answers(self) -> bool:
        """Tell whether there is one."""

    def look(self) -> KubernetesState | None:
        """Return what it says; None when it cannot be asked."""


class Observer:
    """Looks at one cluster again and again; minions that nothing happened to are not asked anew.

    nodes: all that cluster.map gives to the cluster. settings: with defaults. root: the checkout. written: version of
    Kubernetes in the settings file, where `settings` has the one that counts. ask_members: whether etcd's members are
    asked for though no master comes or goes.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        nodes: Collection[names.Node],
        root: Any,
        cloud: Cloud,
        jobs: Jobs,
        api: Api,
        disks: Disks,
        written: str = "",
        ask_members: bool = False,
    ) -> None:
        self.store, self.settings, self.nodes, self.root = store, settings, tuple(sorted(nodes)), root
        self.cloud, self.jobs, self.api = cloud, jobs, api
        self.intent = Intent(store)
        self.written, self.ask_members = written, ask_members
        self.doctor = Doctor(store, settings, self.nodes, disks)
        self._facts: dict[str, Facts] = {}
        self._unlisted: set[str] = set()
        self._silent: set[str] = set()
        self._suspects: frozenset[str] = frozenset()

    @property
    def minions(self) -> Mapping[str, Facts]:
        """What minions said at the last look, also when the rest of it failed."""
        return dict(self._facts)

    def forget(self, minions: Collection[str]) -> None:
        """Ask these minions at the next look: something happened on them."""
        for name in minions:
            self._facts.pop(name, None)

    def look(self) -> Snapshot:
        """Return the cluster as it is now. Raises CloudError or openstack's, JobError, MirrorError."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            servers = pool.submit(self._servers)
            begun = pool.submit(self.cloud.is_begun)
            facts = pool.submit(self._ask)
            answers = pool.submit(self.api.answers)
            kubernetes = pool.submit(self.api.look)
            return self._compose(
                servers.result(), begun.result(), facts.result(), answers.result(), kubernetes.result()
            )

    def _servers(self) -> Servers:
        servers = {name: dict(server) for name, server in self.cloud.servers().items()}
        # Minions are told of each other from this: gateways lead to the masters in it. Nothing is written when there is
        # nothing: a look must not bring the folder of a cluster back that is being destroyed.
        if servers != (self.store.read("inventory.json") or {}):
            self.store.write("inventory.json", servers)
        if not (self.store.read("infra.json") or {}).get("public_address"):
            self._restore_public_address()
        return servers

    def _restore_public_address(self) -> None:
        public = self.cloud.public_address()
        if public:
            self.store.write("infra.json", {**(self.store.read("infra.json") or {}), "public_address": public})

    def _ask(self) -> dict[str, Facts]:
        accepted = self.jobs.accepted(self.store.cluster)
        # Whether a minion still answers whose server is gone, or that is said to be ill, is no thing to remember.
        self.forget(self._unlisted | self._suspects)
        unknown = [name for name in accepted if name not in self._facts]
        expected = set(self.store.read("minions.json") or {}) & set(unknown)
        # One that was silent a moment ago is not waited for as long again.
        limit = _FACTS_LIMIT if set(unknown) - self._silent else _SILENTS_LIMIT
        answers = self.jobs.ask(unknown, FACTS, limit=limit, expected=expected - self._silent)
        self._silent = set(unknown) - set(answers)
        # A minion that never converged does not have the function yet.
        fresh = [name for name, answer in answers.items() if is_unknown_function(answer)]
        if fresh:
            synced = sync_modules(self.jobs, fresh, limit=_SYNC_LIMIT)
            answers |= self.jobs.ask(list(synced), FACTS, limit=_FACTS_LIMIT, expected=synced)
        self._facts |= {name: _facts(answer) for name, answer in answers.items()}
        return {name: facts for name, facts in self._facts.items() if name in accepted}

    def _compose(
        self,
        servers: Servers,
        begun: bool,
        facts: Mapping[str, Facts],
        answers: bool,
        kubernetes: KubernetesState | None,
    ) -> Snapshot:
        # What is on record for a server that is gone says nothing about its successor.
        minions = {name: known for name, known in facts.items() if name in servers}
        self._unlisted = set(facts) - set(servers)
        self.intent.completed({name for name in minions if not servers[name].get("pending")})
        held = kubernetes is not None and self._is_join_held(facts, kubernetes)
        found = self._fleet(servers, facts, kubernetes, held)
        etcd = kubernetes is not None and kubernetes.etcd
        if kubernetes and held:
            etcd = _says_it_is_well(found.members, kubernetes.nodes)
        observed = Observed(
            servers={name: str(server["status"]) for name, server in servers.items()},
            minions=minions,
            known=self._known(servers, minions),
            marker=marker(self.store, begun),
            api=answers,
            access=self._has_access(),
            ready=kubernetes.ready if kubernetes else None,
            etcd=etcd,
            addons=kubernetes.addons if kubernetes else False,
            resources=(self.store.read("resources.json") or {}).get("digest"),
            smoke=(self.store.read("smoke.json") or {}).get("digest"),
            infrastructure=(self.store.read("infra.json") or {}).get("digest"),
            fleet=found,
            rollout=self._rollout(minions, kubernetes),
        )
        desired, nodes = self._desired(servers), kubernetes.nodes if kubernetes else None
        health = self.doctor.health(servers, observed, nodes, smoke=observed.smoke == desired.smoke)
        self._suspects = health.suspects
        return Snapshot(desired, dataclasses.replace(observed, health=health))

    def _rollout(self, minions: Mapping[str, Facts], kubernetes: KubernetesState | None) -> Rollout:
        nodes, versions = (kubernetes.nodes, kubernetes.versions) if kubernetes else ({}, Versions())
        ends = {name: facts.certificates for name, facts in minions.items()}
        return upgrading.compose(self.store, self.settings, self.written, nodes, versions, ends, time.time())

    def _fleet(
        self, servers: Servers, facts: Mapping[str, Facts], kubernetes: KubernetesState | None, join_held: bool
    ) -> Fleet:
        names = {node.id for node in self.nodes}
        nodes = kubernetes.nodes if kubernetes else {}
        complete = {name for name, server in servers.items() if not server.get("pending")}
        busy = {name for name in {*names - complete, *self.intent.condemned()} if self.cloud.is_busy(name)}

        def composed(members: list[dict[str, Any]] | None) -> Fleet:
            return membership.compose(names, servers, facts, busy, nodes, members, self.intent)

        found = composed(None)
        if (
            not self.ask_members
            and not membership.concerns_etcd(found)
            and not self._doubts_etcd(servers, facts, nodes)
            and not join_held
        ):
            return found
        return composed(self._members(found, facts, nodes))

    def _doubts_etcd(self, servers: Servers, facts: Mapping[str, Facts], nodes: membership.Nodes) -> bool:
        """Tell whether any source speaks ill of a master of a cluster that worked once."""
        if self.store.read("smoke.json") is None:
            return False
        masters = [name for name, server in servers.items() if server["role"] == names.MASTER and name in nodes]
        return any(name not in facts or facts[name].ailments or not nodes[name]["ready"] for name in masters)

    def _is_join_held(self, facts: Mapping[str, Facts], kubernetes: KubernetesState) -> bool:
        """Tell whether a master is to join, none is joining, and the API does not call all members of etcd healthy.

        A member says at once that it is well, its kubelet's probe of it 10 to 20 seconds later (the startupProbe that
        kubeadm gives it).
        """
        masters = [facts[node.id] for node in self.nodes if node.role == names.MASTER and node.id in facts]
        joining = any(known.kubeadm == PARTIAL for known in masters)
        return not kubernetes.etcd and not joining and not all(known.is_member for known in masters)

    def _members(
        self, found: Fleet, facts: Mapping[str, Facts], nodes: membership.Nodes
    ) -> list[dict[str, Any]] | None:
        """Return what a master that stays says of etcd's members; None when there is none that could be asked."""
        masters = [
            name
            for name, known in facts.items()
            if f"-{names.MASTER}-" in name and known.is_member and name not in {*found.condemned, *self._unlisted}
        ]
        for name in sorted(masters, key=lambda name: (not nodes.get(name, {}).get("ready"), name)):
            answer = self.jobs.ask([name], MEMBERS, limit=_FACTS_LIMIT, expected=[name]).get(name)
            if answer and answer.ok and isinstance(answer.value, list):
                return answer.value
        return None

    def _known(self, servers: Servers, minions: Collection[str]) -> frozenset[str]:
        """Return the servers whose minion ever answered, and remember those that do now."""
        before = self.store.read("minions.json") or {}
        now = {name: servers[name]["id"] for name in minions}
        known = {name: server["id"] for name, server in servers.items() if server["id"] == before.get(name)} | now
        if known != before:
            self.store.write("minions.json", known)
        return frozenset(known)

    def _has_access(self) -> bool:
        return access.is_good(self.store)

    def _desired(self, servers: Servers) -> Desired:
        tree = paths.tree_digest(self.root)
        view, settings = _ReadOnce(self.store), node_pillar.of_nodes(self.settings)
        ids = {node.id: servers.get(node.id, {}).get("id") for node in self.nodes}
        masters = [name for name in ids if f"-{names.MASTER}-" in name and ids[name]]
        return Desired(
            cluster=self.store.cluster,
            nodes=self.nodes,
            revisions={node.id: node_pillar.public(node, self.settings, view, tree)["revision"] for node in self.nodes},
            resources=paths.digest([settings, {name: ids[name] for name in masters[:1]}]),
            smoke=paths.digest([settings, ids]),
            infrastructure=security_groups.digest(self.settings),
        )


def _says_it_is_well(members: Iterable[Member] | None, nodes: membership.Nodes) -> bool:
    """Tell whether etcd itself says that every master has a healthy member of it."""
    masters = {name for name, node in nodes.items() if node["role"] == names.MASTER}
    well = {member.node: member.healthy and member.voter and not member.lost for member in members or ()}
    return bool(well) and well.keys() >= masters and all(well.values())


class _ReadOnce(Store):
    """A store whose files are read once, however many nodes are told what is in them."""

    def __init__(self, store: Store) -> None:
        self.cluster, self.folder = store.cluster, store.folder
        self._content: dict[str, Any] = {}

    def read(self, name: str) -> Any:
        if self._content.get(name) is None:
            self._content[name] = super().read(name)
        return self._content[name]


def marker(store: Store, begun: bool) -> Marker | None:
    """Return what is on record about `kubeadm init`: here in detail, in the cloud that it was begun."""
    kept = store.read("initialised.json")
    if kept:
        return Marker(kept["master"], kept["finished"])
    return Marker(None, finished=False) if begun else None


def _facts(answer: Answer) -> Facts:
    """Return a minion's facts; of one that cannot say them only that it is there."""
    found = answer.value
    if not answer.ok or not isinstance(found, Mapping):
        return Facts()
    return Facts(
        found.get("revision"),
        str(found.get("kubeadm", "none")),
        found.get("etcd_data"),
        found.get("prepared"),
        ailments=tuple(map(str, found.get("ailments") or ())),
        disk_free=free if isinstance(free := found.get("disk_free"), float) else None,
        virtual_ip=found.get("virtual_ip"),
        boot=found.get("boot"),
        certificates=CertificateExpiry.of(found.get("certificates")),
    )
