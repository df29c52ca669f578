"""Settings that a cluster keeps from its first `kubeadm init` on: nodes, certificates and pods were made with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from managed_k8s.config import load
from managed_k8s.config.settings import Settings
from managed_k8s.state.store import Store

_FILE = "founding.json"
# Of `kubernetes`. What the cloud still knows is checked where it is made: managed_k8s/openstack/infrastructure.py.
_LASTING = {"cni", "pod_cidr", "service_cidr"}


def note(store: Store, settings: Settings) -> None:
    """Keep what a control plane is made with; what was noted before stays."""
    if store.read(_FILE) is None:
        store.write(_FILE, settings.kubernetes.model_dump(include=_LASTING))


def checked(opts: Mapping[str, Any], cluster: str) -> Settings:
    """Return a cluster's settings after everything was checked, also against what the cluster was made with.

    Raises InvalidError with every problem.
    """
    return load.checked(opts, cluster, lambda settings: problems(Store.of(opts, cluster), settings))


def problems(store: Store, settings: Settings) -> Iterable[str]:
    """Yield a sentence for every setting that is not what the cluster was made with."""
    for name, before in (store.read(_FILE) or {}).items():
        now = getattr(settings.kubernetes, name)
        if now != before:
            yield (
                f"kubernetes.{name}: is {now}, but {store.cluster} was made with {before}, which cannot be changed: "
                "set it back, or make a cluster with another name"
            )
