"""What is rolled through a cluster, and how far it is: plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Versions:
    """Versions of Kubernetes that run, as the API tells them.

    config: of the cluster, in kubeadm's ConfigMap; empty when that cannot be read. control_planes: master -> the oldest
    of its static pods. kubelets: node -> version.
    """

    config: str = ""
    control_planes: Mapping[str, str] = dataclasses.field(default_factory=dict)
    kubelets: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Rollout:
    """What is to be rolled through the cluster.

    target: the version that all is to have; empty when it is not known. begun: server -> kind of the step that was
    begun on it and did not end well yet. cordoned: nodes that were cordoned for such a step. maintenance: servers to
    reboot -> what for. expiring: masters whose certificates are to be renewed -> whole days that they are still good
    for. batch: how many workers at once. halted: why no version is changed; empty when it may be. notes: what an
    operator should know, in sentences.
    """

    target: str = ""
    versions: Versions = Versions()
    begun: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cordoned: frozenset[str] = frozenset()
    maintenance: Mapping[str, str] = dataclasses.field(default_factory=dict)
    expiring: Mapping[str, int] = dataclasses.field(default_factory=dict)
    batch: int = 1
    halted: str = ""
    notes: tuple[str, ...] = ()


def number(version: str) -> tuple[int, ...]:
    """Return what versions are compared by.

    version: like 1.36.3; a suffix does not count.
    """
    return tuple(int(part) for part in version.partition("-")[0].partition("+")[0].split("."))


def minor(version: str) -> tuple[int, ...]:
    """Return a version without its patch level."""
    return number(version)[:2]


def is_older(version: str, other: str) -> bool:
    """Tell whether a version is older than another."""
    return number(version) < number(other)
