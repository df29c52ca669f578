"""What a cluster should be, and what it is: plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from managed_k8s.model.certificates import CertificateExpiry
from managed_k8s.model.health import Health
from managed_k8s.model.membership import Fleet
from managed_k8s.model.rollout import Rollout
from managed_k8s.names import Node

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
    fleet: Fleet = dataclasses.field(default_factory=Fleet)
    health: Health = dataclasses.field(default_factory=Health)
    rollout: Rollout = dataclasses.field(default_factory=Rollout)

    def serves(self, gateway: str) -> bool:
        """Tell whether a gateway runs and was converged once, so that requests may go through it."""
        facts = self.minions.get(gateway)
        return facts is not None and facts.revision is not None and self.servers.get(gateway) == "ACTIVE"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A cluster at one moment: what it should be and what it is."""

    desired: Desired
    observed: Observed
