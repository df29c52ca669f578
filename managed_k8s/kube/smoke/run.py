"""All smoke tests of a cluster, side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from kubernetes.client import ApiClient

from managed_k8s.config.settings import Settings
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.kube.smoke import basics, network, storage
from managed_k8s.kube.smoke.check import TRANSIENT, Check, FailedError, perform, reason
from managed_k8s.kube.smoke.workspace import Workspace, remove_leftovers, workspace

_BASICS: dict[str, Callable[[ApiClient], str]] = {
    "nodes are Ready": basics.nodes,
    "etcd is healthy": basics.etcd,
    "add-ons run": basics.workloads,
    "the API answers at its public address": basics.public_api,
}
_CLEANUP = "everything is cleaned up"
_CLEANUP_LIMIT = 180


def run(api: ApiClient, settings: Settings, report: Callable[[Check], None]) -> list[Check]:
    """Make all checks and return them; what they made in the cluster and in the cloud is gone then.

    settings: of the cluster.
    report: gets each check as it ends, from any thread, one at a time.
    Never raises for what is wrong with the cluster.
    """
    done: list[Check] = []
    lock = threading.Lock()

    def note(check: Check) -> None:
        with lock:
            done.append(check)
            report(check)

    with ThreadPoolExecutor(len(_BASICS)) as pool:
        looks = [
            pool.submit(lambda item: note(perform(item[0], lambda: item[1](api))), item) for item in _BASICS.items()
        ]
        try:
            _in_workspace(api, settings.openstack.virtual_ip, note)
        except (FailedError, *TRANSIENT) as error:
            note(Check("pods can be tried", False, reason(error) if isinstance(error, TRANSIENT) else str(error), 0.0))
        for look in looks:
            look.result()
    return done


def _in_workspace(api: ApiClient, virtual_ip: str, note: Callable[[Check], None]) -> None:
    remove_leftovers(api)
    nodes = _two_nodes(api)
    with workspace(api) as space:
        image = space.image()
        with ThreadPoolExecutor(2) as pool:
            jobs = [
                pool.submit(network.run, space, image, nodes, virtual_ip, note),
                pool.submit(storage.run, space, image, nodes, note),
            ]
            for job in jobs:
                job.result()
    note(perform(_CLEANUP, lambda: _removed(space)))


def _removed(space: Workspace) -> str:
    return space.wait_removed(_CLEANUP_LIMIT)


def _two_nodes(api: ApiClient) -> tuple[str, str]:
    """Return two nodes that take pods, workers if there are; one twice in a cluster of one. Raises FailedError."""
    found = kube_nodes.nodes(api)
    usable = sorted(
        (name for name, node in found.items() if node["ready"] and not node["unschedulable"]),
        key=lambda name: (found[name]["role"] != "worker", name),
    )
    if not usable:
        raise FailedError("no node is Ready and takes pods")
    return usable[0], usable[1 % len(usable)]
