"""Claims, volumes and snapshots in a cluster's API."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import tenacity
import urllib3.exceptions
from kubernetes.client import ApiClient, CoreV1Api, CustomObjectsApi, StorageV1Api
from kubernetes.client.exceptions import ApiException

from managed_k8s.kube.smoke.check import reason
from managed_k8s.volumes.claims import LABEL, VALUE, ZONE, Claim
from managed_k8s.volumes.objects import MADE_BY_US, Object
from managed_k8s.volumes.restore_plan import VolumeError

_SNAPSHOTS = {"group": "snapshot.storage.k8s.io", "version": "v1"}
_MERGE = "application/merge-patch+json"
_LOOK = 0.5


# What an API server says that goes away while others take over; a run lasts for hours.
_patiently = tenacity.retry(
    retry=tenacity.retry_if_exception(lambda error: isinstance(error, urllib3.exceptions.HTTPError) or _is_ill(error)),
    stop=tenacity.stop_after_delay(120),
    wait=tenacity.wait_fixed(2),
    reraise=True,
)


def _is_ill(error: BaseException) -> bool:
    return isinstance(error, ApiException) and (error.status == 429 or (error.status or 0) >= 500)


@contextlib.contextmanager
def connected(connect: Callable[[], ApiClient]) -> Iterator[Kubernetes]:
    """Give the cluster's API; turn what its client raises into a VolumeError."""
    with _explained():
        yield Kubernetes(connect())


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (ApiException, urllib3.exceptions.HTTPError) as error:
        said = str(getattr(error, "body", None) or "")[:500]
        raise VolumeError(f"the cluster's API says {reason(error)} {said}".strip()) from error


class Kubernetes:
    """The cluster's side of volumes."""

    def __init__(self, api: ApiClient) -> None:
        self.core, self._custom, self._storage = CoreV1Api(api), CustomObjectsApi(api), StorageV1Api(api)

    # Looking

    def labelled(self) -> list[Claim]:
        """Return the claims that are to be backed up."""
        volumes = {one.metadata.name: one for one in self.core.list_persistent_volume().items}
        found = self.core.list_persistent_volume_claim_for_all_namespaces(label_selector=f"{LABEL}={VALUE}").items
        return [Claim.of(one, volumes.get(one.spec.volume_name)) for one in found]

    def claim(self, namespace: str, name: str) -> Claim | None:
        """Return a claim, or None when there is none."""
        found = _found(lambda: self.core.read_namespaced_persistent_volume_claim(name, namespace))
        if found is None:
            return None
        volume = found.spec.volume_name and _found(lambda: self.core.read_persistent_volume(found.spec.volume_name))
        return Claim.of(found, volume or None)

    def users(self, namespace: str, name: str) -> list[str]:
        """Return the pods that use a claim and have not ended."""
        return [
            f"pod {pod.metadata.name}"
            for pod in self.core.list_namespaced_pod(namespace).items
            if pod.status.phase not in ("Succeeded", "Failed")
            and any(
                volume.persistent_volume_claim and volume.persistent_volume_claim.claim_name == name
                for volume in pod.spec.volumes or []
            )
        ]

    def storage_classes(self) -> dict[str, Any]:
        """Return name -> StorageClass."""
        return {one.metadata.name: one for one in self._storage.list_storage_class().items}

    def zones(self) -> set[str]:
        """Return the zones that the driver attaches volumes in."""
        return {zone for node in self.core.list_node().items if (zone := (node.metadata.labels or {}).get(ZONE))}

    def is_used(self, handle: str) -> bool:
        """Tell whether a Cinder volume is, or was, some claim's."""
        return any(
            one.spec.csi and one.spec.csi.volume_handle == handle and one.status.phase in ("Bound", "Released")
            for one in self.core.list_persistent_volume().items
        )

    # Snapshots

    @_patiently
    def snapshots(self) -> list[Object]:
        """Return the VolumeSnapshots that we made and that are there still."""
        selector = ",".join(f"{key}={value}" for key, value in MADE_BY_US.items())
        found: list[Object] = self._custom.list_cluster_custom_object(
            **_SNAPSHOTS, plural="volumesnapshots", label_selector=selector
        )["items"]
        return found

    def create_snapshot(self, item: Object) -> None:
        """Make a VolumeSnapshot. Raises VolumeError."""
        namespace = item["metadata"]["namespace"]
        with _explained():
            self._custom.create_namespaced_custom_object(
                **_SNAPSHOTS, namespace=namespace, plural="volumesnapshots", body=item
            )

    @_patiently
    def delete_snapshot(self, item: Object) -> None:
        """Remove a VolumeSnapshot and what stands for it; the backup in Cinder stays."""
        names = {"namespace": item["metadata"]["namespace"], "name": item["metadata"]["name"]}
        _found(lambda: self._custom.delete_namespaced_custom_object(**_SNAPSHOTS, plural="volumesnapshots", **names))
        content = (item.get("status") or {}).get("boundVolumeSnapshotContentName")
        if content:
            _found(lambda: self._custom.delete_cluster_custom_object(
                **_SNAPSHOTS, plural="volumesnapshotcontents", name=content
            ))  # fmt: skip

    # Restoring

    def retire(self, claim: Claim, limit: float) -> None:
        """Remove a claim that nothing uses, and keep its volume. Raises VolumeError when something uses it."""
        if claim.volume:
            body = {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}
            self.core.patch_persistent_volume(claim.volume, body, _content_type=_MERGE)
        _found(lambda: self.core.delete_namespaced_persistent_volume_claim(
            claim.name, claim.namespace, body={"preconditions": {"uid": claim.uid}}
        ))  # fmt: skip
        _until(
            lambda: (found := self.claim(claim.namespace, claim.name)) is None or found.uid != claim.uid,
            limit,
            lambda: (
                f"{claim.path}: is not gone after {limit:.0f} s; "
                f"{', '.join(self.users(claim.namespace, claim.name)) or 'something'} uses it; its volume "
                f"{claim.volume} stays. Run it again once nothing does"
            ),
        )

    def bring(self, volume: Object, claim: Object, limit: float) -> None:
        """Make a namespace where it is missing, a volume and its claim; return once they are bound to each other."""
        namespace, name = claim["metadata"]["namespace"], claim["metadata"]["name"]
        _new(lambda: self.core.create_namespace({"metadata": {"name": namespace}}))
        _new(lambda: self.core.create_persistent_volume(volume))
        _new(lambda: self.core.create_namespaced_persistent_volume_claim(namespace, claim))

        def phase() -> str:
            found = self.core.read_namespaced_persistent_volume_claim(name, namespace)
            ours = found.spec.volume_name == volume["metadata"]["name"]
            return str(found.status.phase) if ours else f"another's: {found.spec.volume_name}"

        _until(
            lambda: phase() == "Bound",
            limit,
            lambda: f"{namespace}/{name} is {phase()} after {limit:.0f} s; see its events, and run it again",
        )


def _found(question: Callable[[], Any]) -> Any:
    """Return an answer, or None when what is asked about does not exist."""
    try:
        return question()
    except ApiException as error:
        if error.status == 404:
            return None
        raise


def _new(creation: Callable[[], Any]) -> None:
    """Make something; what an interrupted run made already is fine."""
    try:
        creation()
    except ApiException as error:
        if error.status != 409:
            raise


def _until(question: Callable[[], bool], limit: float, otherwise: Callable[[], str]) -> None:
    end = time.monotonic() + limit
    while not question():
        if time.monotonic() > end:
            raise VolumeError(otherwise())
        time.sleep(_LOOK)
