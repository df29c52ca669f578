"""What a cluster should be, what it is, and the steps between them: plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from managed_k8s.model.certificates import CertificateExpiry
from managed_k8s.model.health import Health
from managed_k8s.model.rollout import Rollout
from managed_k8s.names import Node

# Kinds of steps.
CONVERGE, INIT, ACCESS, JOIN = "converge", "init", "access", "join"
INFRASTRUCTURE, ADDONS, RESOURCES, SMOKE = "infrastructure", "addons", "resources", "smoke"
DRAIN, LEAVE, REMOVE, CREATE, UNCORDON = "drain", "leave", "remove", "create", "uncordon"

# What kubeadm did on a node.
NONE, PARTIAL, INITIALISED, JOINED = "none", "partial", "initialised", "joined"


@dataclasses.dataclass(frozen=True)
class Desired:
    """What the operator wants.

    nodes: every server of the cluster in cluster.map.
    revisions: node name -> revision that it has once it is converged.
    resources, smoke, infrastructure: digests of what these steps are run for.
    """

    cluster: str
    nodes: tuple[Node, ...]
    revisions: Mapping[str, str]
    resources: str
    smoke: str
    infrastructure: str | None = None


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a connected minion says of its server.

    revision: what it was converged to. prepared: what it was last ready for kubeadm with; it may be converging still.
    kubeadm: NONE, PARTIAL, INITIALISED or JOINED. etcd_data: None when it could not say. ailments: what does not work.
    disk_free: 0 to 1, of its fullest disk. virtual_ip: whether a gateway has the API's address now. boot: id of its
    present boot. certificates: until when they are good. What it does not say is None.
    """

    revision: str | None = None
    kubeadm: str = NONE
    etcd_data: bool | None = None
    prepared: str | None = None
    ailments: tuple[str, ...] = ()
    disk_free: float | None = None
    virtual_ip: bool | None = None
    boot: str | None = None
    certificates: CertificateExpiry = dataclasses.field(default_factory=CertificateExpiry)

    @property
    def is_member(self) -> bool:
        """Tell whether kubeadm finished on this server."""
        return self.kubeadm in (INITIALISED, JOINED)


@dataclasses.dataclass(frozen=True)
class Marker:
    """That `kubeadm init` was begun for this cluster, some time, by some Salt master.

    master: where; None when only the cloud still knows that it was begun. finished: whether it came to its end.
    """

    master: str | None
    finished: bool


@dataclasses.dataclass(frozen=True)
class Member:
    """A member of etcd.

    id: hexadecimal. node: the server at its address; without one, the server it was on. voter: whether it counts for
    the quorum. lost: whether there is no server at its address any more.
    """

    id: str
    node: str
    healthy: bool = True
    voter: bool = True
    lost: bool = False


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Which servers come and go, beside what cluster.map says.

    asked: servers that an operator, or a replacement, wants made. lost: those that were complete once and are gone,
    whether or not they are in the map.
    unfinished: those whose making was begun and did not end. busy: those that somebody makes or removes right now.
    contradicted: those that OpenStack does not list though their minion answers.
    condemned: servers that are to go -> why. unwanted: those that are not in the map, and nobody said may go.
    remains: Kubernetes nodes whose server is gone. drained: nodes that nothing runs on any more, for their removal.
    cordoned: nodes that were cordoned for a removal. members: of etcd; None when nobody could be asked.
    paused: why nothing is to be changed; empty when it may.
    """

    asked: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    unfinished: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    contradicted: frozenset[str] = frozenset()
    condemned: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unwanted: frozenset[str] = frozenset()
    remains: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()
    cordoned: frozenset[str] = frozenset()
    members: tuple[Member, ...] | None = None
    paused: str = ""


@dataclasses.dataclass(frozen=True)
class Observed:
    """What there is.

    servers: name -> Nova's status. minions: facts of those that answer. known: minions that ever answered.
    marker: None only when no init was ever begun. api: whether anything answers at the cluster's address.
    access: whether CA and kubeconfig are on the Salt master. ready: Kubernetes node -> is Ready; None when the API
    cannot be asked. etcd: whether the API says that etcd is healthy. addons: whether they are as they should be.
    resources, smoke, infrastructure: digests they were last written, passed and made for. fleet: what comes and goes.
    health: who is ill. rollout: what is rolled through it.
    """

    servers: Mapping[str, str]
    minions: Mapping[str, Facts]
    known: frozenset[str] = frozenset()
    marker: Marker | None = None
    api: bool = False
    access: bool = False
    ready: Mapping[str, bool] | None = None
    etcd: bool = False
    addons: bool = False
    resources: str | None = None
    smoke: str | None = None
    infrastructure: str | None = None
    fleet: Fleet = Fleet()
    health: Health = dataclasses.field(default_factory=Health)
    rollout: Rollout = dataclasses.field(default_factory=Rollout)


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to do.

    id: like `join:demo-worker-1`. node: where; empty for the cluster as a whole. needs: ids of steps to be done first.
    held: what has to come true first, beside them; empty when nothing.
    """

    id: str
    kind: str
    node: str
    description: str
    needs: tuple[str, ...] = ()
    held: str = ""


def runnable(steps: list[Step]) -> list[Step]:
    """Return the steps that may be started now: nothing they need is still to be done."""
    open_ids = {step.id for step in steps}
    return [step for step in steps if not step.held and open_ids.isdisjoint(step.needs)]
