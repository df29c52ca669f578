"""What the Kubernetes API says of a cluster: plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from managed_k8s.model.rollout import Versions


@dataclasses.dataclass(frozen=True)
class KubernetesState:
    """What the Kubernetes API says.

    ready: node -> whether it is Ready. etcd: whether every member is healthy. addons: whether they are as they should.
    nodes: as kube.nodes.nodes() returns them. versions: of Kubernetes, that run.
    """

    ready: Mapping[str, bool]
    etcd: bool
    addons: bool
    nodes: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    versions: Versions = dataclasses.field(default_factory=Versions)
