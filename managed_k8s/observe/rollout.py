"""How far what is rolled through a cluster is: from what the API, the minions and the operator say."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from managed_k8s import names
from managed_k8s.config.settings import Settings
from managed_k8s.kube import node_annotations
from managed_k8s.model import rollout as rollout_model
from managed_k8s.model.certificates import CertificateExpiry
from managed_k8s.model.rollout import Rollout, Versions
from managed_k8s.model.steps import MAINTAIN
from managed_k8s.observe import membership
from managed_k8s.state import certificates, versions
from managed_k8s.state.rollout import Record
from managed_k8s.state.store import Store

_DAY = 86400


def compose(
    store: Store,
    settings: Settings,
    written: str,
    nodes: membership.Nodes,
    running: Versions,
    ends: Mapping[str, CertificateExpiry],
    now: float,
) -> Rollout:
    """Return what is to be rolled through a cluster, and keep what nodes are made from.

    settings: with the version that is wanted. written: the version that the settings file says. nodes: Kubernetes's.
    running: versions that the API told. ends: server -> until when its certificates are good. now: seconds since 1970.
    """
    versions.remember(store, running)
    certificates.remember(store, ends)
    record = Record(store)
    return Rollout(
        target=versions.wanted(settings, store).kubernetes.version if running.config else "",
        versions=running,
        begun=_begun(record, nodes),
        cordoned=frozenset(name for name, node in nodes.items() if node["cordoned_by"] == node_annotations.MAINTENANCE),
        maintenance={
            name: "upgrade the packages of, and reboot," if asked["packages"] else "reboot"
            for name, asked in record.maintenance().items()
        },
        expiring=_expiring(ends, settings.maintenance.certificate_days, now),
        batch=settings.maintenance.worker_batch,
        halted=_halted(store.cluster, record.upgrade()),
        notes=notes(store.cluster, written, running.config, record.upgrade()),
    )


def _begun(record: Record, nodes: Collection[str]) -> dict[str, str]:
    """Return server -> kind of the step that was begun on it and can be gone on with.

    What was begun on a Node ended with that Node: its successor converges and joins like any other. A gateway has none.
    """
    return {name: kind for name, kind in record.begun().items() if name in nodes or kind == MAINTAIN}


def _halted(cluster: str, upgrade: Mapping[str, Any]) -> str:
    if not upgrade.get("halted"):
        return ""
    command = f"salt-run managed_k8s.upgrade {cluster} version={upgrade['version']}"
    return f"a way back to {upgrade['before']} was asked for; to go on instead: {command}"


def _expiring(ends: Mapping[str, CertificateExpiry], margin: int, now: float) -> dict[str, int]:
    """Return master -> days that its certificates are still good for, of those that are to be renewed."""
    found = {}
    for name, end in ends.items():
        node = names.parse(name)
        if node is None or node.role != names.MASTER or end.control_plane is None:
            continue
        days = math.floor((end.control_plane - now) / _DAY)
        if end.renewing:
            # What restarts by halves is not asked to be well first.
            found[name] = min(days, 0)
        elif days < margin:
            found[name] = days
    return found


def notes(cluster: str, written: str, runs: str, upgrade: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what is to be said of a settings file that names another version than the cluster runs.

    written: in the file. runs: what kubeadm noted. upgrade: the last one, as Record.upgrade() returns it.
    """
    wanted = max(filter(None, (runs, upgrade.get("version"))), key=rollout_model.number, default="")
    if not (runs and written) or written in (wanted, upgrade.get("written")):
        return ()
    file = f"pillar/clusters/{cluster}.sls: kubernetes.version"
    if rollout_model.is_older(written, wanted):
        return (f"{file} {written} is older than what runs, {wanted}, and no cluster is made older: write {wanted}",)
    return (
        f"{file} {written} is not what runs, {runs}: no node changes before it is its turn; to begin: "
        f"salt-run managed_k8s.upgrade {cluster} version={written}",
    )
