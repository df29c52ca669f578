"""What is known of the health of a cluster's servers: plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

# What a server says of itself, in facts.
SERVICES = ("containerd", "kubelet", "haproxy", "keepalived")
DISK, ETCD = "disk", "etcd"
# What follows from what it says, and from what Kubernetes says.
LOW_DISK = "low_disk"


@dataclasses.dataclass(frozen=True)
class Signs:
    """What each source says of one server that is there.

    server: its id. status: Nova's. outside: why it is ill to those it works for (Kubernetes and etcd; of a gateway its
    port), empty when it is well to them, None when they cannot be asked. minion: whether it answers. ailments: what it
    says of itself. heard: time that Kubernetes last heard of it, if it has been silent since.
    """

    name: str
    role: str
    server: str
    status: str
    outside: str | None
    minion: bool
    ailments: tuple[str, ...] = ()
    heard: float | None = None


@dataclasses.dataclass(frozen=True)
class Patient:
    """A server that is ill.

    why: for people. remedy: kind of the step that is done about it next; empty when nothing is. held: why not yet;
    empty when now.
    """

    name: str
    why: str
    remedy: str = ""
    held: str = ""


@dataclasses.dataclass(frozen=True)
class Health:
    """How a cluster's servers are.

    alarm: why nothing is rebooted or replaced; empty when it may. suspects: servers that any source speaks ill of.
    silent: those whose kubelet, or port, is silent, whether or not Kubernetes noticed. record: what is to be kept; None
    when nothing was judged. time: of the judgement. news: (subject, what, reason) to announce.
    """

    patients: tuple[Patient, ...] = ()
    alarm: str = ""
    suspects: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    record: Mapping[str, Any] | None = None
    time: float = 0
    news: tuple[tuple[str, str, str], ...] = ()
