"""Taking work off a node: cordon, evict, let go of volumes; and remembering who cordoned it."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import tenacity
from kubernetes.client import ApiClient, CoreV1Api, StorageV1Api
from kubernetes.client.exceptions import ApiException

from managed_k8s.errors import Error
from managed_k8s.kube import node_annotations

Say = Callable[[str], None]

# Kubernetes lets go of a dead node's pods and volumes at once when it is tainted so, instead of after minutes
# (kubernetes.io/docs/concepts/cluster-administration/node-shutdown, non-graceful node shutdown).
OUT_OF_SERVICE = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
_MIRROR = "kubernetes.io/config.mirror"
_MERGE = "application/merge-patch+json"
_INTERVAL = 2.0
# Seconds beyond the limit for pods that were told to end; for volumes to be unmounted, and to be detached by force.
_ENDING, _UNMOUNTED, _FREED = 120, 60, 180


class DrainError(Error):
    """A node is not empty; the message says what is left on it and why."""


def cordon(api: ApiClient, node: str, by: str) -> bool:
    """Let no new pods onto a node; return whether it was cordoned by this.

    by: fleet.REMOVAL or OPERATOR, kept on the Node. One that somebody else cordoned keeps what it says.
    """
    core = CoreV1Api(api)
    if core.read_node(node).spec.unschedulable:
        return False
    _patch(core, node, {"metadata": {"annotations": {node_annotations.CORDONED: by}}, "spec": {"unschedulable": True}})
    return True


def uncordon(api: ApiClient, node: str, by: str) -> bool:
    """Undo a cordon; return whether it was ours: somebody else's stays."""
    core = CoreV1Api(api)
    found = core.read_node(node)
    ours = (found.metadata.annotations or {}).get(node_annotations.CORDONED) == by
    body: dict[str, Any] = {"metadata": {"annotations": {node_annotations.DRAINED: None}}}
    if ours:
        body = {
            "metadata": {"annotations": {node_annotations.DRAINED: None, node_annotations.CORDONED: None}},
            "spec": {"unschedulable": None},
        }
    _patch(core, node, body)
    return ours


def _patch(core: CoreV1Api, node: str, body: dict[str, Any]) -> None:
    core.patch_node(node, body, _content_type=_MERGE)


def evict(api: ApiClient, node: str, limit: float, say: Say, force: bool) -> None:
    """Have all pods leave a node, but those that belong to it (DaemonSets, static pods).

    limit: seconds for which PodDisruptionBudgets may refuse. force: whether the pods are deleted then.
    Raises DrainError when some are left, ApiException.
    """
    core, end = CoreV1Api(api), time.monotonic() + limit
    refused: dict[str, str] = {}
    while pods := _evictable(core, node):
        if time.monotonic() >= end:
            _past_limit(core, node, pods, refused, say, force)
            break
        refused = {_name(pod): why for pod in pods if not _is_ending(pod) and (why := _evict(core, pod))}
        say(f"{len(pods)} pods are still on {node}" + (f"; {_list(refused)} may not go yet" if refused else ""))
        time.sleep(min(_INTERVAL, max(end - time.monotonic(), 0)))
    _until(lambda: not _attachments(api, node), _UNMOUNTED)


def _past_limit(core: CoreV1Api, node: str, pods: list[Any], refused: dict[str, str], say: Say, force: bool) -> None:
    if not force:
        reasons = "; ".join(f"{name}: {why}" for name, why in sorted(refused.items()))
        raise DrainError(f"{_list(map(_name, pods))} did not leave {node} in time. {reasons}".strip())
    say(f"time is up: {_list(map(_name, pods))} on {node} are deleted")
    for pod in pods:
        _unless_gone(functools.partial(core.delete_namespaced_pod, pod.metadata.name, pod.metadata.namespace))
    if not _until(lambda: not _evictable(core, node), _ENDING):
        # They go with the server.
        say(f"{_list(map(_name, _evictable(core, node)))} on {node} do not end")


def _evictable(core: CoreV1Api, node: str) -> list[Any]:
    pods = core.list_pod_for_all_namespaces(field_selector=f"spec.nodeName={node}").items
    return [pod for pod in pods if not _belongs_to_node(pod) and pod.status.phase not in ("Succeeded", "Failed")]


def _belongs_to_node(pod: Any) -> bool:
    owners = pod.metadata.owner_references or []
    return _MIRROR in (pod.metadata.annotations or {}) or any(o.kind == "DaemonSet" and o.controller for o in owners)


def _is_ending(pod: Any) -> bool:
    return pod.metadata.deletion_timestamp is not None


def _evict(core: CoreV1Api, pod: Any) -> str:
    """Ask a pod to leave; return why it may not, or nothing."""
    name, namespace = pod.metadata.name, pod.metadata.namespace
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    try:
        core.create_namespaced_pod_eviction(name, namespace, body)
    except ApiException as error:
        if error.status == 404:
            return ""
        # 429: a budget refuses for now; 500: several budgets select the pod.
        if error.status in (429, 500):
            return _message(error)
        raise
    return ""


def _message(error: ApiException) -> str:
    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _name(pod: Any) -> str:
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def _list(names: Any, most: int = 5) -> str:
    every = sorted(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(every[:most]) + more


def mark_drained(api: ApiClient, node: str) -> None:
    """Note on a Node that nothing runs on it any more, so that this is not done twice."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    _patch(CoreV1Api(api), node, {"metadata": {"annotations": {node_annotations.DRAINED: stamp}}})


def free(api: ApiClient, node: str, say: Say) -> None:
    """Let go of the pods and volumes of a node that certainly does not run any more.

    To be called only when its server is gone or confirmed to be off: its volumes are attached elsewhere then.
    Raises ApiException.
    """
    _taint(CoreV1Api(api), node)
    if not _until(lambda: not _attachments(api, node), _FREED):
        # The cloud detaches them when the server is deleted.
        say(f"volumes are still attached to {node}: {_list(_attachments(api, node))}")


@tenacity.retry(stop=tenacity.stop_after_attempt(5), wait=tenacity.wait_fixed(0.2), reraise=True)
def _taint(core: CoreV1Api, node: str) -> None:
    found = core.read_node(node)
    taints = [
        {key: value for key, value in (("key", t.key), ("value", t.value), ("effect", t.effect)) if value}
        for t in found.spec.taints or []
    ]
    if OUT_OF_SERVICE in taints:
        return
    # The list is replaced as a whole: not when somebody changed it in between.
    version = {"resourceVersion": found.metadata.resource_version}
    _patch(core, node, {"metadata": version, "spec": {"taints": [*taints, OUT_OF_SERVICE]}})


def _attachments(api: ApiClient, node: str) -> list[str]:
    items = StorageV1Api(api).list_volume_attachment().items
    return [str(item.spec.source.persistent_volume_name) for item in items if item.spec.node_name == node]


def delete_node(api: ApiClient, node: str) -> None:
    """Delete a Node; one that is not there is fine."""
    _unless_gone(lambda: CoreV1Api(api).delete_node(node))


def _unless_gone(action: Callable[[], Any]) -> None:
    try:
        action()
    except ApiException as error:
        if error.status != 404:
            raise


def _until(is_done: Callable[[], bool], seconds: float) -> bool:
    """Wait until something is so; return whether it is."""
    end = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() >= end:
            return False
        time.sleep(_INTERVAL)
    return True
