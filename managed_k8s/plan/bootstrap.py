"""The way from servers to a cluster: pure functions of what is and should be.

Every server converges as soon as its minion is connected; the first master is initialised once a gateway leads to it;
then masters join one at a time, workers and add-ons in parallel; the smoke test is last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from managed_k8s.model.cluster import Desired, Facts, Observed
from managed_k8s.model.steps import (
    ACCESS,
    ADDONS,
    CONVERGE,
    INFRASTRUCTURE,
    INIT,
    JOIN,
    LEAVE,
    REMOVE,
    RESOURCES,
    SMOKE,
    Step,
)
from managed_k8s.names import GATEWAY, MASTER, WORKER, Node
from managed_k8s.plan import rollout


class Bootstrap:
    """Plans for one cluster at one moment, and says what stands in the way."""

    def __init__(self, desired: Desired, observed: Observed) -> None:
        self.desired, self.observed = desired, observed
        nodes = sorted(desired.nodes)
        # Nothing more is done on a server that is to go.
        self.connected = [
            node for node in nodes if node.id in observed.minions and node.id not in observed.fleet.condemned
        ]
        self.masters = [node for node in nodes if node.role == MASTER]
        self.stale = {
            node.id for node in self.connected if self._facts(node).revision != desired.revisions.get(node.id)
        } - rollout.at_work(observed)
        self.initial = self._initial()

    def _facts(self, node: Node) -> Facts:
        return self.observed.minions[node.id]

    # OpenStack, beside the servers

    def infrastructure(self) -> Iterable[Step]:
        """Correct it when settings changed since salt-cloud made it, with the first servers."""
        if self.observed.marker and self.observed.infrastructure != self.desired.infrastructure:
            yield Step(INFRASTRUCTURE, INFRASTRUCTURE, "", "correct network and security groups")

    # Converging

    def converges(self) -> Iterable[Step]:
        """Have each server converge whose revision is another one than it should be."""
        # What serves already is changed one at a time, so that a restart of its daemons interrupts nobody.
        last: dict[str, str] = {}
        for node in self.connected:
            if node.id not in self.stale:
                continue
            needs: tuple[str, ...] = ()
            if self._serves(node):
                needs = (last[node.role],) if node.role in last else ()
                last[node.role] = f"{CONVERGE}:{node.id}"
            yield Step(f"{CONVERGE}:{node.id}", CONVERGE, node.id, f"converge {node.id}", needs)

    def _serves(self, node: Node) -> bool:
        facts = self._facts(node)
        return facts.revision is not None if node.role == GATEWAY else node.role == MASTER and facts.is_member

    def _converged(self, *nodes: Node) -> tuple[str, ...]:
        """Return the steps after which kubeadm can run on these; what they still do beyond that is not waited for."""
        return tuple(f"{CONVERGE}:{node.id}" for node in nodes if node.id in self.stale and not self._is_prepared(node))

    def _is_prepared(self, node: Node) -> bool:
        return self._facts(node).prepared == self.desired.revisions.get(node.id)

    # The first master

    def _initial(self) -> Node | None:
        """Return the master to run `kubeadm init` on, or None while that might make a second etcd."""
        marker = self.observed.marker
        if marker and (marker.finished or marker.master is None):
            return None
        candidates = [node for node in self.masters if node.id in self.observed.minions]
        begun = marker.master if marker else None
        if begun:
            candidates = [node for node in candidates if node.id == begun]
        elif self.observed.api:
            return None
        first = next(iter(candidates), None)
        if first is None or self._facts(first).is_member or self._gateway() is None:
            return None
        # What a begun init left behind on its own master is that init's; anywhere else etcd data is a cluster.
        suspects = [name for name in self._possible_masters() if name != begun]
        return None if any(self._may_hold_data(name) for name in suspects) else first

    def _possible_masters(self) -> set[str]:
        """Return every server that is, or was, a master of this cluster, whether or not it is in the map."""
        found = {*self.observed.servers, *self.observed.minions, *(node.id for node in self.masters)}
        return {name for name in found if name.startswith(f"{self.desired.cluster}-{MASTER}-")}

    def _may_hold_data(self, name: str) -> bool:
        facts = self.observed.minions.get(name)
        if facts is not None:
            return facts.etcd_data is not False
        return name in self.observed.servers and name in self.observed.known

    def _gateway(self) -> Node | None:
        """Return a connected gateway, a converged one if there is."""
        gateways = [node for node in self.connected if node.role == GATEWAY]
        return min(gateways, key=lambda node: node.id in self.stale, default=None)

    def init(self) -> Iterable[Step]:
        """Initialise the control plane, if that was not done yet, nor may make a second one."""
        master, gateway = self.initial, self._gateway()
        if master:
            needs = self._converged(master, *([gateway] if gateway else []))
            yield Step(f"{INIT}:{master.id}", INIT, master.id, f"initialise the control plane on {master.id}", needs)

    # After it

    def access(self) -> Iterable[Step]:
        """Fetch CA and kubeconfig from a master; what also ends an init whose end nobody noted."""
        members = [node for node in self._members() if node.role == MASTER]
        if self.initial is None and (self._is_accessible() or not members):
            return
        marker = self.observed.marker
        named = [node for node in members if marker and node.id == marker.master]
        source = self.initial or next(iter(named or members))
        needs = (f"{INIT}:{source.id}",) if self.initial else ()
        yield Step(f"{ACCESS}:{source.id}", ACCESS, source.id, f"get access to the API from {source.id}", needs)

    def _is_accessible(self) -> bool:
        marker = self.observed.marker
        return self.observed.access and marker is not None and marker.finished

    def _members(self) -> list[Node]:
        return [node for node in self.connected if self._facts(node).is_member]

    def will_answer(self) -> bool:
        """Tell whether the API can be asked, or can be once the steps so far are done."""
        if self.initial:
            return True
        return self.observed.ready is not None or (self.observed.api and any(self.access()))

    def _accessible(self) -> tuple[str, ...]:
        return tuple(step.id for step in self.access())

    def joins(self, removals: Sequence[Step]) -> Iterable[Step]:
        """Have the others join: masters one at a time, workers in parallel.

        removals: the steps that remove servers.
        """
        yield from self._joins(MASTER, removals)
        yield from self._joins(WORKER, removals)

    def _joins(self, role: str, removals: Sequence[Step]) -> Iterable[Step]:
        before = self._accessible()
        if role == MASTER:
            before += self._converged(*(node for node in self._members() if node.role == MASTER))
        for node in self.connected:
            if node.role != role or node == self.initial or self._has_joined(node):
                continue
            held = self._unfit_for_a_master() if role == MASTER else ""
            needs = (*self._converged(node), *before, *_gone_before(node, removals))
            step = Step(f"{JOIN}:{node.id}", JOIN, node.id, f"join {node.id}", needs, held)
            yield step
            if role == MASTER:
                # Two masters that join at once race for etcd's membership.
                before = (*self._accessible(), step.id)

    def _has_joined(self, node: Node) -> bool:
        """Tell whether there is nothing to join: a member that is no node (any more) is an obstacle, not a step."""
        known = node.id in (self.observed.ready or {}) and node.id not in self.observed.fleet.remains
        return known or self._facts(node).is_member

    def _unfit_for_a_master(self) -> str:
        """Return why no master may join now: a new member costs etcd its quorum when another one is ill."""
        if self.observed.ready is None:
            return ""
        # Whether a master is Ready depends on the pod network too, and a new one waits for that: etcd is what counts.
        return "" if self.observed.etcd else "not every master has a healthy etcd"

    def cluster_wide(self, before: Sequence[Step]) -> Iterable[Step]:
        """Write what belongs to the cluster as a whole, after the steps before."""
        needs = (*self._accessible(), *(step.id for step in before))
        if not self.observed.addons:
            yield Step(ADDONS, ADDONS, "", "apply the add-ons: pod network, cloud controller, volumes, DNS", needs)
        first = next((node for node in self.connected if node.role == MASTER), None)
        if first and self.observed.resources != self.desired.resources:
            text = f"write the cluster's resources to ~/.managed_k8s on {first.id}"
            yield Step(RESOURCES, RESOURCES, first.id, text, (*self._converged(first), *needs))

    def smoke(self, before: Sequence[Step]) -> Iterable[Step]:
        """Test what was made, after all steps before."""
        if self.observed.smoke == self.desired.smoke:
            return
        lacking = len([*self._absent(), *self._unready(), *self._strays()])
        held = f"{lacking} of the cluster's servers are not ready yet" if lacking else ""
        yield Step(SMOKE, SMOKE, "", "run the smoke test", tuple(step.id for step in before), held)

    # What no step of ours removes

    def sentences(self) -> list[str]:
        """Return a sentence for everything that stands in the way, and needs time or a human."""
        return [*self._lost(), *self._absent(), *self._obstacles()]

    def _lost(self) -> list[str]:
        """Return a sentence when there was a control plane, and no server that might hold its data is left."""
        marker = self.observed.marker
        if marker is None or self.initial or self.observed.api:
            return []
        # A minion that does not answer may hold it, whether or not it ever did answer to this Salt master.
        masters = [name for name in self._possible_masters() if name in self.observed.servers]
        facts = [self.observed.minions.get(name) for name in masters]
        if any(found is None or found.is_member or found.etcd_data is not False for found in facts):
            return []
        cluster, where = self.desired.cluster, f", first on {marker.master}" if marker.master else ""
        return [
            f"{cluster} had a control plane{where}, and no server that held its data is left. None is made in "
            f"its place unasked. To bring it back from its newest backup: salt-run managed_k8s.restore {cluster}. To "
            f"begin anew, with nothing in it: salt-run managed_k8s.destroy {cluster} && "
            "salt-cloud -m cluster.map"
        ]

    def _absent(self) -> list[str]:
        """Return a sentence for every server that is not there, does not run, or whose minion is silent."""
        sentences = []
        ill = {patient.name for patient in self.observed.health.patients}
        for node in sorted(self.desired.nodes):
            status = self.observed.servers.get(node.id)
            if status is None:
                sentences.append(f"{node.id}: {self._why_no_server(node.id)}")
            elif node.id in self.observed.minions or node.id in ill:
                continue
            elif status != "ACTIVE":
                sentences.append(
                    f"{node.id}: the server is {status}; look at it: openstack server show {node.id}. "
                    f"To have it made anew: salt-run managed_k8s.replace {node.id}"
                )
            elif node.id in self.observed.known:
                sentences.append(
                    f"{node.id}: the minion was there and does not answer now; "
                    "if it stays so: is salt-minion running, does it reach the Salt master?"
                )
            else:
                sentences.append(f"{node.id}: the minion has not connected yet")
        return sentences

    def _why_no_server(self, name: str) -> str:
        fleet = self.observed.fleet
        if name in fleet.asked | fleet.lost:
            return "has no server yet"
        return "has no server; run: salt-cloud -m cluster.map"

    def _obstacles(self) -> list[str]:
        """Return a sentence for everything about the cluster as a whole that needs time or a human."""
        if self.observed.ready is not None:
            return [*self._unready(), *self._strays()]
        if self.initial or self.observed.marker is None:
            return self._why_no_init()
        if self.observed.api:
            return self._why_no_access()
        if self._lost():
            return []
        return [
            "the Kubernetes API does not answer: are haproxy and keepalived running on the gateways, "
            "kubelet on the masters? salt-run managed_k8s.status says what is known",
            *self._unfinished(),
        ]

    def _why_no_init(self) -> list[str]:
        if any(self.access()):
            # A master says that it was initialised, and the gateways do not lead to it (yet).
            return [] if self.observed.api or self.initial else ["the Kubernetes API does not answer yet"]
        holders = sorted(name for name in self._possible_masters() if self._may_hold_data(name))
        if holders:
            return [
                f"{name}: holds etcd data, or may hold it and does not answer, and nothing says of which cluster: no "
                f"control plane is made beside it. If its data is not needed: salt {name} managed_k8s_kubeadm.reset"
                for name in holders
            ]
        if self.observed.api:
            return ["something answers at the API's address that this Salt master did not make: nothing is initialised"]
        lacking = [role for role in (GATEWAY, MASTER) if not any(node.role == role for node in self.connected)]
        return [f"the control plane is initialised once a {role} is connected" for role in lacking]

    def _unfinished(self) -> list[str]:
        marker = self.observed.marker
        if marker is None or marker.finished:
            return []
        where = marker.master or "a master that this Salt master does not know"
        return [f"initialising the control plane was begun on {where} and did not end; no other master is initialised"]

    def _why_no_access(self) -> list[str]:
        if any(self.access()):
            return []
        return ["the API answers, but no connected master can sign a certificate for its administration"]

    def _unready(self) -> list[str]:
        ready = self.observed.ready or {}
        return [
            f"{node.id}: the node is not Ready; see: kubectl describe node {node.id}"
            for node in self.connected
            if ready.get(node.id) is False and self.observed.addons and node.id not in self.observed.fleet.remains
        ]

    def _strays(self) -> list[str]:
        ready = self.observed.ready
        if ready is None:
            return []
        return [
            f"{node.id}: kubeadm joined it, but it is no node of the cluster; if it stays so: "
            f"salt {node.id} managed_k8s_kubeadm.reset, and it joins anew"
            for node in self._members()
            if node.id not in ready
        ]


def _gone_before(node: Node, removals: Sequence[Step]) -> Iterable[str]:
    """Return the removals before a join: of what an earlier server of that name left, and of members of etcd."""
    for step in removals:
        # One that is held may well wait for this join.
        leaves = step.kind == LEAVE and node.role == MASTER and not step.held
        if leaves or (step.kind == REMOVE and step.node == node.id):
            yield step.id
