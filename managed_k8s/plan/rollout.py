"""The order in which a change is rolled through a cluster: pure functions of what is and should be.

Kubernetes' version: control planes one by one, add-ons, kubelets of masters one by one, then those of workers in
batches. So no kubelet is ever newer than an API server (kubernetes.io/releases/version-skew-policy). Nothing begins
while any node is ill, but what was begun on an ill one goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from managed_k8s.model.cluster import Desired, Observed
from managed_k8s.model.rollout import is_older, minor
from managed_k8s.model.steps import KUBELET, MAINTAIN, RENEW, UPGRADE, Step
from managed_k8s.names import GATEWAY, MASTER, WORKER, Node


def renewals(desired: Desired, observed: Observed) -> list[Step]:
    """Return the steps that renew masters' certificates; they need no API, which may be down for want of them."""
    return list(_Rolling(desired, observed).renewals())


def control_planes(desired: Desired, observed: Observed, before: Sequence[Step]) -> list[Step]:
    """Return the steps that upgrade control planes, after all steps before."""
    return list(_Rolling(desired, observed).control_planes(_ids(before)))


def servers(desired: Desired, observed: Observed, before: Sequence[Step]) -> list[Step]:
    """Return the steps that upgrade kubelets, then those that reboot servers, after all steps before."""
    rolling = _Rolling(desired, observed)
    kubelets = list(rolling.kubelets(_ids(before)))
    return [*kubelets, *rolling.maintenance(_ids([*before, *kubelets]))]


def at_work(observed: Observed) -> frozenset[str]:
    """Return the nodes that their own step converges, when it is safe to, and nobody else."""
    return frozenset(name for name, kind in observed.rollout.begun.items() if kind == KUBELET)


def sentences(desired: Desired, observed: Observed) -> list[str]:
    """Return a sentence for everything about versions that an operator should know or do."""
    return [*observed.rollout.notes, *_Rolling(desired, observed).newer()]


class _Rolling:
    def __init__(self, desired: Desired, observed: Observed) -> None:
        self.desired, self.observed, self.rollout = desired, observed, observed.rollout
        self.versions, self.target = observed.rollout.versions, observed.rollout.target
        self.ready = observed.ready or {}
        # What is to go is not worked on any more.
        stay = [node for node in sorted(desired.nodes) if node.id not in observed.fleet.condemned]
        self.nodes = [node for node in stay if node.id in self.versions.kubelets]
        self.masters = [node for node in self.nodes if node.role == MASTER]
        self.everybody = stay

    # Versions

    def control_planes(self, before: tuple[str, ...]) -> Iterable[Step]:
        due = [node for node in self.masters if self._is_control_plane_due(node)]
        if not due and self._is_older(self.versions.config):
            # All of it ran before kubeadm noted so.
            due = self.masters[:1]
        for node in sorted(due, key=lambda node: (node.id not in self._begun(UPGRADE), node)):
            step = f"{UPGRADE}:{node.id}"
            words = f"upgrade the control plane on {node.id} to {self.target}"
            yield Step(step, UPGRADE, node.id, words, before, self._skew() or self._held(UPGRADE, node))
            before = (*before, step)

    def _is_control_plane_due(self, node: Node) -> bool:
        return node.id in self._begun(UPGRADE) or self._is_older(self.versions.control_planes.get(node.id, ""))

    def _is_older(self, version: str) -> bool:
        return bool(self.target and version) and is_older(version, self.target)

    def _skew(self) -> str:
        if self.rollout.halted:
            return self.rollout.halted
        config = self.versions.config
        if config and minor(self.target) > (minor(config)[0], minor(config)[1] + 1):
            return f"from {config} to {self.target} is more than one minor version: kubeadm takes one at a time"
        return ""

    def kubelets(self, before: tuple[str, ...]) -> Iterable[Step]:
        due = [node for node in self.nodes if self._is_kubelet_due(node)]
        yield from self._rolled(KUBELET, due, before, self._kubelet_words, self._kubelet_held)

    def _is_kubelet_due(self, node: Node) -> bool:
        # A cordon of ours that no step knows of was left behind by a Salt master that is gone.
        forgotten = node.id in self.rollout.cordoned and node.id not in self.rollout.begun
        return forgotten or node.id in self._begun(KUBELET) or self._is_older(self.versions.kubelets[node.id])

    def _kubelet_words(self, node: Node) -> str:
        if self._is_older(self.versions.kubelets[node.id]):
            return f"upgrade the kubelet of {node.id} to {self.target}: drain, exchange, uncordon"
        return f"finish the upgrade of {node.id}: uncordon"

    def _kubelet_held(self, node: Node) -> str:
        unknown = [master.id for master in self.masters if master.id not in self.versions.control_planes]
        if unknown or not self.versions.config:
            return f"it is not known what runs on {', '.join(unknown) or 'the masters'}"
        return self.rollout.halted or self._held(KUBELET, node)

    def newer(self) -> list[str]:
        """Return a sentence for every node that is newer than the cluster: none is ever made older."""
        if not self.target:
            return []
        return [
            f"{node.id}: its kubelet {version} is newer than the cluster, {self.target}; have it made anew: "
            f"salt-run managed_k8s.replace {node.id}"
            for node in self.nodes
            if is_older(self.target, version := self.versions.kubelets[node.id])
        ]

    # Packages and reboots

    def maintenance(self, before: tuple[str, ...]) -> Iterable[Step]:
        due = [node for node in self.everybody if node.id in self.rollout.maintenance]
        yield from self._rolled(MAINTAIN, due, before, self._maintenance_words, self._maintenance_held)

    def _maintenance_words(self, node: Node) -> str:
        return f"{self.rollout.maintenance[node.id]} {node.id}"

    def _maintenance_held(self, node: Node) -> str:
        others = [other.id for other in self.everybody if other.role == GATEWAY and other != node]
        if node.role != GATEWAY or node.id in self._begun(MAINTAIN) or any(map(self.observed.serves, others)):
            return self._held(MAINTAIN, node)
        return f"{node.id} is the only gateway that serves; add another one to cluster.map first"

    # Certificates

    def renewals(self) -> Iterable[Step]:
        before: tuple[str, ...] = ()
        names = [node.id for node in self.everybody if node.role == MASTER and node.id in self.observed.minions]
        # What has ended keeps others from working.
        for name in sorted(
            (name for name in names if name in self.rollout.expiring), key=lambda name: self.rollout.expiring[name]
        ):
            days = self.rollout.expiring[name]
            state = f"are good for {days} more days" if days >= 0 else "have ended"
            words = f"renew the certificates on {name}, which {state}"
            yield Step(f"{RENEW}:{name}", RENEW, name, words, before, "" if days <= 0 else self._unfit(frozenset()))
            before = (*before, f"{RENEW}:{name}")

    # Which at once, and whether

    def _rolled(
        self,
        kind: str,
        due: list[Node],
        before: tuple[str, ...],
        words: Callable[[Node], str],
        held: Callable[[Node], str],
    ) -> Iterable[Step]:
        """Yield a step for each node: gateways, then masters, one by one, then workers in batches."""
        for role, size in ((GATEWAY, 1), (MASTER, 1), (WORKER, self.rollout.batch)):
            for batch in self._batches(kind, [node for node in due if node.role == role], size):
                steps = [Step(f"{kind}:{node.id}", kind, node.id, words(node), before, held(node)) for node in batch]
                yield from steps
                before = (*before, *_ids(steps))

    def _batches(self, kind: str, due: list[Node], size: int) -> Iterable[list[Node]]:
        """What was begun is a batch of its own: nothing new begins beside it."""
        begun = [node for node in due if node.id in self._begun(kind)]
        if begun:
            yield begun
        rest = [node for node in due if node not in begun]
        yield from (rest[n : n + size] for n in range(0, len(rest), size))

    def _begun(self, kind: str) -> frozenset[str]:
        return frozenset(name for name, begun in self.rollout.begun.items() if begun == kind)

    def _held(self, kind: str, node: Node) -> str:
        """Return why a step must wait; one that was begun is there to make its node well again."""
        return self._unfit(self._begun(kind) if node.id in self._begun(kind) else frozenset())

    def _unfit(self, but: frozenset[str]) -> str:
        if self.observed.ready is None:
            return "the Kubernetes API cannot be asked"
        ill = [
            node.id
            for node in sorted(self.desired.nodes)
            if node.role != GATEWAY and node.id not in but and not self.ready.get(node.id)
        ]
        if ill:
            return f"first {', '.join(ill)} must be Ready"
        if not self.observed.etcd and not any(node.id in but for node in self.masters):
            return "first every master must have a healthy etcd"
        return ""


def _ids(steps: Iterable[Step]) -> tuple[str, ...]:
    return tuple(step.id for step in steps)
