"""The namespace of one run: made, filled, and taken away again with the volumes that it used."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from typing import Any

from kubernetes.client import ApiClient, AppsV1Api, CoreV1Api, CustomObjectsApi, StorageV1Api
from kubernetes.client.exceptions import ApiException

from managed_k8s.kube.smoke import pods
from managed_k8s.kube.smoke.check import TRANSIENT, FailedError, eventually

PREFIX = "managed-k8s-smoke-"
LABELS = {"app.kubernetes.io/managed-by": "managed-k8s", "managed-k8s/smoke-test": "salt-master"}
# Seconds for another controller manager to lead after the one that did is gone.
_ACCOUNT = 60
_SNAPSHOTS = {"group": "snapshot.storage.k8s.io", "version": "v1"}


class Workspace:
    """Objects in the run's own namespace."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self.api, self.namespace = api, namespace
        self.core = CoreV1Api(api)
        self._custom = CustomObjectsApi(api)

    def account(self) -> str:
        """Return the name of the ServiceAccount that pods have. Raises ApiException while there is none."""
        return str(self.core.read_namespaced_service_account("default", self.namespace).metadata.name)

    def image(self) -> str:
        """Return the image that test pods use: the CSI node plugin's, which is on every node."""
        plugin = AppsV1Api(self.api).read_namespaced_daemon_set(pods.PLUGIN, "kube-system")
        return str(next(c.image for c in plugin.spec.template.spec.containers if c.name == "cinder-csi-plugin"))

    def create(self, item: dict[str, Any]) -> Any:
        """Create a pod, service, claim or snapshot."""
        if item["kind"] == "VolumeSnapshot":
            return self._custom.create_namespaced_custom_object(
                **_SNAPSHOTS, namespace=self.namespace, plural="volumesnapshots", body=item
            )
        create = {
            "Pod": self.core.create_namespaced_pod,
            "Service": self.core.create_namespaced_service,
            "PersistentVolumeClaim": self.core.create_namespaced_persistent_volume_claim,
        }[item["kind"]]
        return create(self.namespace, item)

    def wait_running(self, name: str, limit: float) -> str:
        """Return the address of a pod as soon as it runs. Raises FailedError."""

        def look() -> str:
            status = self.core.read_namespaced_pod(name, self.namespace).status
            if status.phase != "Running":
                raise FailedError(f"pod {name} is {status.phase} after {limit:g} s: {self._why(name)}")
            return str(status.pod_ip)

        return eventually(look, limit)

    def wait_done(self, name: str, limit: float) -> str:
        """Return what a pod wrote as its result, once it has ended. Raises FailedError when it failed."""

        def look() -> str:
            pod = self.core.read_namespaced_pod(name, self.namespace)
            if pod.status.phase not in ("Succeeded", "Failed"):
                raise FailedError(f"pod {name} is {pod.status.phase} after {limit:g} s: {self._why(name)}")
            return str(pod.status.phase)

        phase = eventually(look, limit)
        pod = self.core.read_namespaced_pod(name, self.namespace)
        message = (pod.status.container_statuses[0].state.terminated.message or "").strip()
        if phase == "Failed":
            raise FailedError(f"pod {name} on {pod.spec.node_name} failed: {message or self._why(name)}")
        return message

    def wait_snapshot(self, name: str, limit: float) -> str:
        """Wait until a snapshot can be used. Raises FailedError."""

        def look() -> str:
            found = self._custom.get_namespaced_custom_object(
                **_SNAPSHOTS, namespace=self.namespace, plural="volumesnapshots", name=name
            )
            status = found.get("status") or {}
            if not status.get("readyToUse"):
                said = (status.get("error") or {}).get("message", "no word from the snapshot controller")
                raise FailedError(f"VolumeSnapshot {name} is not ready after {limit:g} s: {said}")
            return "ready"

        return eventually(look, limit)

    def _why(self, name: str) -> str:
        """Return the last warning about a pod, or what it waits for."""
        events = self.core.list_namespaced_event(self.namespace, field_selector=f"involvedObject.name={name}").items
        warnings = [event.message for event in events if event.type == "Warning"]
        return str((warnings or [event.message for event in events] or ["no event about it"])[-1])

    def volumes(self) -> list[str]:
        """Return the names of persistent volumes that were made for this namespace."""
        return [
            volume.metadata.name
            for volume in self.core.list_persistent_volume().items
            if volume.spec.claim_ref and volume.spec.claim_ref.namespace == self.namespace
        ]

    def remove(self) -> None:
        """Delete the namespace and everything in it; one that is gone is no error."""
        with contextlib.suppress(ApiException):
            # Snapshots go first: Cinder does not delete a volume that has some.
            self._custom.delete_collection_namespaced_custom_object(
                **_SNAPSHOTS, namespace=self.namespace, plural="volumesnapshots"
            )
        try:
            self.core.delete_namespace(self.namespace)
        except ApiException as error:
            if error.status != 404:
                raise

    def wait_removed(self, limit: float) -> str:
        """Wait until its volumes are gone: Kubernetes forgets one only after Cinder has deleted it.

        Raises FailedError naming what is left.
        """

        def look() -> str:
            left = [f"PersistentVolume {name}" for name in self.volumes()]
            left += [f"VolumeSnapshotContent {name}" for name in self._contents()]
            if left:
                raise FailedError(f"not gone after {limit:g} s: {', '.join(left)}; see its events")
            return "volumes and snapshots are gone, in Cinder too"

        return eventually(look, limit)

    def _contents(self) -> list[str]:
        found = self._custom.list_cluster_custom_object(**_SNAPSHOTS, plural="volumesnapshotcontents")
        return [
            item["metadata"]["name"]
            for item in found["items"]
            if item["spec"]["volumeSnapshotRef"]["namespace"] == self.namespace
        ]

    def attached(self) -> list[str]:
        """Return the names of nodes that a volume of this namespace is attached to."""
        ours = set(self.volumes())
        found = StorageV1Api(self.api).list_volume_attachment().items
        return [item.spec.node_name for item in found if item.spec.source.persistent_volume_name in ours]


def remove_leftovers(api: ApiClient) -> None:
    """Delete what runs that were killed have left; there is never more than one run from the Salt master."""
    selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
    for item in CoreV1Api(api).list_namespace(label_selector=selector).items:
        Workspace(api, item.metadata.name).remove()


@contextlib.contextmanager
def workspace(api: ApiClient) -> Iterator[Workspace]:
    """Give a new namespace, which is deleted afterwards."""
    space = Workspace(api, PREFIX + secrets.token_hex(3))
    space.core.create_namespace({"metadata": {"name": space.namespace, "labels": LABELS}})
    try:
        # Pods are refused before the controller manager has made it. Without one, the checks say so.
        with contextlib.suppress(*TRANSIENT):
            eventually(space.account, _ACCOUNT)
        yield space
    finally:
        space.remove()
