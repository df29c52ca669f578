"""Which servers are made and removed, in which order, and what is refused: pure functions of what is and should be.

A node leaves in this order: cordoned and drained, out of etcd, its Node deleted, its server and its key removed.
Masters go one at a time, and only while etcd keeps its quorum without them.
"""

from __future__ import annotations

from collections.abc import Iterable

from managed_k8s import names
from managed_k8s.model.cluster import Desired, Observed
from managed_k8s.model.membership import Member, has_quorum
from managed_k8s.model.steps import CREATE, DRAIN, LEAVE, REMOVE, UNCORDON, Step
from managed_k8s.names import GATEWAY, MASTER, WORKER, Node

# More of the cluster's servers than this, gone at once, are no failure of single servers.
_MOST_LOST = 0.4
_CONTRADICTION = "OpenStack does not list its server, but it answers; is the cloud's list complete?"


def steps(desired: Desired, observed: Observed) -> list[Step]:
    """Return the steps that remove what is to go and make what is missing, each after those it needs."""
    return _Removals(desired, observed).steps()


def refusal(desired: Desired, observed: Observed, name: str) -> str:
    """Return why a node must not be removed now, with the way out; empty when it may be."""
    return _Removals(desired, observed).refusal(name)


def sentences(desired: Desired, observed: Observed) -> list[str]:
    """Return a sentence for everything that comes and goes only when an operator says so."""
    fleet = observed.fleet
    found = [
        f"{name}: is not in cluster.map; to remove it: salt-run managed_k8s.reconcile; to keep it: add it to the map"
        for name in sorted(fleet.unwanted)
    ]
    if fleet.paused:
        way = "" if "to go on" in fleet.paused else "; to go on: salt-run managed_k8s.resume"
        found.insert(0, f"nothing is changed: {fleet.paused}{way}")
    return found


class _Removals:
    def __init__(self, desired: Desired, observed: Observed) -> None:
        self.desired, self.observed, self.fleet = desired, observed, observed.fleet
        self.wanted = {node.id for node in desired.nodes}
        self.ready = observed.ready or {}
        self.members = observed.fleet.members or ()

    def steps(self) -> list[Step]:
        # A server that is gone, and in the map, is made anew; beside what it left its key may stay.
        gone = self.fleet.lost - self.wanted
        leaving = {
            *self.fleet.condemned,
            *self.fleet.remains,
            *gone,
            *(m.node for m in self.members if m.lost and m.node),
        }
        nodes = sorted((node for name in leaving if (node := names.parse(name))), key=self._rank)
        found: list[Step] = []
        for node in nodes:
            found += self._removal(node, _last(found, node.role) if node.role != WORKER else ())
        found += self._nameless(_last(found, MASTER))
        return [*found, *self._creations({step.id for step in found}), *self._uncordons(leaving)]

    def _rank(self, node: Node) -> tuple[object, ...]:
        """What can be done comes first; of that what is half gone, is ill, comes back, has left the map."""
        return (
            node.role,
            bool(self.refusal(node.id)),
            node.id not in self.fleet.drained,
            self.ready.get(node.id, False),
            node.id not in self.wanted,
            node,
        )

    # Removing

    def _removal(self, node: Node, before: tuple[str, ...]) -> Iterable[Step]:
        name, held = node.id, self.refusal(node.id)
        needs = before
        for kind, due, words in (
            (DRAIN, name in self.ready and name not in self.fleet.drained, f"drain {name}"),
            (LEAVE, self._in_etcd(node), f"take {name} out of etcd"),
            (REMOVE, True, self._removing(name)),
        ):
            if due:
                yield Step(f"{kind}:{name}", kind, name, words, needs, held)
                needs = (*before, f"{kind}:{name}")

    def _nameless(self, before: tuple[str, ...]) -> Iterable[Step]:
        """A join that was interrupted leaves a member that never started, so it has no name."""
        for member in self.members:
            if member.lost and not member.node:
                words = f"take member {member.id}, which never started and whose server is gone, out of etcd"
                yield Step(f"{LEAVE}:{member.id}", LEAVE, member.id, words, before, self._keeps_quorum(member.id))
                before = (f"{LEAVE}:{member.id}",)

    def _removing(self, name: str) -> str:
        why = self.fleet.condemned.get(name)
        return f"remove {name}: {why}" if why else f"remove what is left of {name}, whose server is gone"

    def _own(self, name: str) -> list[Member]:
        """Return the members that go with a node: of a server that is condemned or gone."""
        return [m for m in self.members if m.node == name and (m.lost or name in self.fleet.condemned)]

    def _in_etcd(self, node: Node) -> bool:
        if node.role != MASTER or self.observed.marker is None:
            return False
        return self.fleet.members is None or bool(self._own(node.id))

    def refusal(self, name: str) -> str:
        node = names.parse(name)
        if node is None:
            return f"{name} is no node's name"
        if name not in self.observed.servers and (name in self.fleet.contradicted or self.ready.get(name)):
            return _CONTRADICTION
        if node.role != GATEWAY and self.observed.marker and self.observed.ready is None:
            return "the Kubernetes API cannot be asked"
        return {GATEWAY: self._keeps_a_gateway, MASTER: self._keeps_quorum, WORKER: self._keeps_workers}[node.role](
            name
        )

    def _keeps_a_gateway(self, name: str) -> str:
        # One that left the map, too, serves until the one that comes back does.
        others = self.wanted if name not in self.wanted else self.wanted | self.fleet.condemned.keys()
        if not self.observed.serves(name) or any(
            names.is_gateway(other) and self.observed.serves(other) for other in others - {name}
        ):
            return ""
        return f"{name} is the last gateway that serves; add another one to cluster.map first, and wait until it does"

    def _keeps_quorum(self, name: str) -> str:
        marker = self.observed.marker
        if marker is None:
            return ""
        if not marker.finished:
            return "the control plane is still being initialised"
        if self.fleet.members is None:
            return "no connected master could be asked for etcd's members"
        voters = [member for member in self.members if member.voter]
        own = {member.id for member in self._of(name)}
        if not own & {member.id for member in voters}:
            return ""
        rest = [member for member in voters if member.id not in own]
        if not rest:
            return (
                f"{name} is etcd's only member: with it all data would be gone; add two masters to cluster.map first "
                "(or destroy the cluster, or restore it from a backup)"
            )
        if not has_quorum(voters):
            return f"etcd has lost its quorum ({_count(voters)}): bring a master back, or restore a backup"
        if not has_quorum(rest):
            return f"etcd would lose its quorum: without {name} {_count(rest)}; first heal the others"
        return self._others_first(name, own)

    def _of(self, name: str) -> list[Member]:
        """Return the members on a node, those of its condemned or lost server if there are several."""
        return self._own(name) or [member for member in self.members if name in (member.node, member.id)]

    def _others_first(self, name: str, own: set[str]) -> str:
        """One master at a time: none that is well goes while another one is missing or ill."""
        if not all(member.healthy for member in self.members if member.id in own):
            return ""
        healthy = {member.node for member in self.members if member.healthy and member.voter and not member.lost}
        missing = sorted(
            node.id
            for node in self.desired.nodes
            if node.role == MASTER and node.id != name and (node.id not in healthy or not self.ready.get(node.id))
        )
        return f"one master at a time: first {', '.join(missing)} must be Ready" if missing else ""

    def _keeps_workers(self, name: str) -> str:
        """A worker that is well is replaced only when no other one is missing."""
        if name not in self.wanted or not self.ready.get(name) or name in self.fleet.drained:
            return ""
        missing = sorted(
            node.id
            for node in self.desired.nodes
            if node.role == WORKER
            and node.id != name
            and (not self.ready.get(node.id) or node.id in self.fleet.drained)
        )
        before = [other for other in self.fleet.condemned if other in self.wanted and _is_worker_before(other, name)]
        first = sorted({*missing, *before})
        return f"one worker at a time is replaced: first {', '.join(first)} must be Ready" if first else ""

    # Making

    def _creations(self, planned: set[str]) -> Iterable[Step]:
        for node in self.desired.nodes:
            name = node.id
            if name in self.fleet.condemned:
                due = name not in self.fleet.busy
            else:
                absent = name not in self.observed.servers or name in self.fleet.unfinished
                due = absent and name in self.fleet.asked | self.fleet.lost and name not in self.fleet.busy
            if due:
                needs = (f"{REMOVE}:{name}",) if f"{REMOVE}:{name}" in planned else ()
                yield Step(f"{CREATE}:{name}", CREATE, name, f"make server {name}", needs, self._unmakeable(name))

    def _unmakeable(self, name: str) -> str:
        if name in self.fleet.contradicted or (name in self.fleet.lost and self.ready.get(name)):
            return _CONTRADICTION
        lost = [node.id for node in self.desired.nodes if node.id in self.fleet.lost - self.fleet.asked]
        if name in lost and len(lost) > max(1, _MOST_LOST * len(self.desired.nodes)):
            return (
                f"{len(lost)} of {len(self.desired.nodes)} servers are gone at once; if they shall be made anew: "
                "salt-run managed_k8s.reconcile"
            )
        return ""

    def _uncordons(self, leaving: set[str]) -> Iterable[Step]:
        for name in sorted(self.fleet.cordoned & self.wanted - leaving):
            if self.ready.get(name):
                yield Step(f"{UNCORDON}:{name}", UNCORDON, name, f"uncordon {name}, which stays after all")


def _last(found: list[Step], role: str) -> tuple[str, ...]:
    """Return the id of the last step so far that removes a server of a role."""
    return tuple(step.id for step in found if step.kind == REMOVE and names.role(step.node) == role)[-1:]


def _is_worker_before(name: str, other: str) -> bool:
    node, later = names.parse(name), names.parse(other)
    return node is not None and later is not None and node.role == WORKER and node < later


def _count(voters: list[Member]) -> str:
    return f"{sum(member.healthy for member in voters)} of {len(voters)} members are healthy"
