"""The facts about one cluster at one moment, and why some of them are not known: plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from managed_k8s.model import cluster as model
from managed_k8s.model.cluster import Snapshot
from managed_k8s.model.membership import Member
from managed_k8s.names import Node

# Who is asked: keys of World.unknown, in the order in which people read them.
CLOUD, MINIONS, KUBERNETES, ETCD, VOLUMES, PLAN = "cloud", "minions", "kubernetes", "etcd", "volumes", "plan"
SOURCES = {
    CLOUD: "the cloud",
    MINIONS: "the minions",
    KUBERNETES: "Kubernetes",
    ETCD: "etcd",
    VOLUMES: "the volumes",
    PLAN: "what is to be done",
}


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A certificate that somebody has to renew in time.

    name: whose, for people. ends: seconds since 1970; None when it could not be read, and `problem` says why.
    renewed: when the reconciler renews it by itself, if it does. key: like `api`, for programs.
    """

    key: str
    name: str
    ends: float | None
    renewed: float | None = None
    problem: str = ""


@dataclasses.dataclass(frozen=True)
class Volume:
    """A persistent volume.

    claim: namespace/name of who asked for it, or empty. size: as Kubernetes writes it, like 1Gi. node: where it is
    attached, or empty.
    """

    name: str
    claim: str
    size: str
    node: str = ""


@dataclasses.dataclass(frozen=True)
class Backup:
    """What is on record about backups; times are seconds since 1970.

    newest: the name of the newest one. time: when it was begun. following, drill: when the next ones are due; None when
    none is.
    """

    newest: str | None = None
    time: float | None = None
    problems: tuple[str, ...] = ()
    following: float | None = None
    drill: float | None = None


@dataclasses.dataclass(frozen=True)
class World:
    """Everything that is known.

    now: seconds since 1970. seconds: how long the looking took. version: of Kubernetes, as the settings want it.
    servers, nodes: as listing() and observe_kubernetes.nodes() return them. api: whether one answers. look: what is
    wanted and what is there, as the reconciler sees it. state, attempts: what the reconciler left. working: whether it
    is at work. renewals: what is wrong with servers' certificates. unknown: source -> why it said nothing; what it
    would have said is None then.
    """

    cluster: str
    now: float
    wanted: tuple[Node, ...]
    version: str
    virtual_ip: str
    public_address: str | None = None
    servers: Mapping[str, Mapping[str, Any]] | None = None
    minions: Mapping[str, model.Facts] | None = None
    api: bool = False
    nodes: Mapping[str, Mapping[str, Any]] | None = None
    members: tuple[Member, ...] | None = None
    volumes: tuple[Volume, ...] | None = None
    look: Snapshot | None = None
    certificates: tuple[Certificate, ...] = ()
    backup: Backup = Backup()
    renewals: tuple[str, ...] = ()
    state: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    attempts: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    working: bool = False
    paused: str = ""
    seconds: float = 0
    unknown: Mapping[str, str] = dataclasses.field(default_factory=dict)
