"""Bringing objects into a cluster by server-side apply, and telling cheaply whether they are there."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import tenacity
from kubernetes.client import ApiClient, AppsV1Api, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic import DynamicClient
from kubernetes.dynamic.exceptions import NotFoundError, ResourceNotFoundError, UnprocessibleEntityError

from managed_k8s.errors import Error
from managed_k8s.kube.addons.collect import LABEL
from managed_k8s.kube.addons.manifests import Object

MANAGER = "managed-k8s"
# One object that says which objects were applied completely.
_MARK = "managed-k8s-addons"
_DIGEST = "managed-k8s/digest"
# Its parameters are fixed, but nothing refers to it once a volume is made: it can be made anew.
_REPLACEABLE = ("StorageClass",)
_CRD_LIMIT = 60


class ApplyError(Error):
    """Objects that Kubernetes did not take; the message names each with the reason."""


def digest(objects: Sequence[Object]) -> str:
    """Return the SHA-256 of objects."""
    return hashlib.sha256(json.dumps(objects, sort_keys=True).encode()).hexdigest()


def name(item: Object) -> str:
    """Return what an object is called in messages, like `Deployment kube-system/coredns`."""
    metadata = item["metadata"]
    path = "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
    return f"{item['kind']} {path}"


def missing(api: ApiClient, objects: Sequence[Object]) -> list[str]:
    """Return what is not as `objects` says, as far as three cheap requests tell; empty: nothing to apply.

    They compare the digest of what was last applied, and look for every Deployment and DaemonSet with our label,
    which an upgrade by kubeadm takes from CoreDNS. Raises ApiException.
    """
    if _applied(api) != digest(objects):
        return ["what was last applied is not what should be"]
    selector = ",".join(f"{key}={value}" for key, value in LABEL.items())
    apps = AppsV1Api(api)
    there = {
        f"{kind} {item.metadata.namespace}/{item.metadata.name}"
        for kind, answer in (
            ("Deployment", apps.list_deployment_for_all_namespaces(label_selector=selector)),
            ("DaemonSet", apps.list_daemon_set_for_all_namespaces(label_selector=selector)),
        )
        for item in answer.items
    }
    wanted = [name(item) for item in objects if item["kind"] in ("Deployment", "DaemonSet")]
    return [f"{each} is not there or was changed" for each in wanted if each not in there]


def _applied(api: ApiClient) -> str | None:
    try:
        mark = CoreV1Api(api).read_namespaced_config_map(_MARK, "kube-system")
    except ApiException as error:
        if error.status == 404:
            return None
        raise
    return (mark.metadata.annotations or {}).get(_DIGEST)


def apply(api: ApiClient, objects: Sequence[Object], progress: Callable[[str], None]) -> list[str]:
    """Make the cluster's objects what they should be and return the names of those that changed.

    Objects of one kind at once, kinds in the order they come in. `progress` gets a line per kind.
    Raises ApplyError with everything that was refused.
    """
    client = DynamicClient(api)
    changed: list[str] = []
    waves = [list(wave) for _, wave in itertools.groupby(objects, key=lambda item: (item["apiVersion"], item["kind"]))]
    with ThreadPoolExecutor(8) as pool:
        for wave in waves:
            changed += _apply_wave(pool, client, wave, progress)
    _write_mark(client, objects)
    return changed


def _apply_wave(
    pool: ThreadPoolExecutor, client: DynamicClient, wave: list[Object], progress: Callable[[str], None]
) -> list[str]:
    resource = _resource(client, wave[0])
    progress(f"{wave[0]['kind']}: {', '.join(item['metadata']['name'] for item in wave)}")
    jobs = [(item, pool.submit(_apply_one, client, resource, item)) for item in wave]
    failed = [f"{name(item)}: {_reason(error)}" for item, job in jobs if (error := job.exception())]
    if failed:
        raise ApplyError("Kubernetes refused:\n" + "\n".join(f"- {line}" for line in failed))
    if wave[0]["kind"] == "CustomResourceDefinition":
        _wait_established(client, resource, wave)
    return [name(item) for item, job in jobs if job.result()]


@tenacity.retry(
    retry=tenacity.retry_if_exception_type(ResourceNotFoundError),
    stop=tenacity.stop_after_delay(30),
    wait=tenacity.wait_fixed(0.5),
    reraise=True,
)
def _resource(client: DynamicClient, item: Object) -> Any:
    """Return the kind's place in the API; that of a definition made a moment ago appears after a while."""
    try:
        return client.resources.get(api_version=item["apiVersion"], kind=item["kind"])
    except ResourceNotFoundError:
        client.resources.invalidate_cache()
        raise


def _apply_one(client: DynamicClient, resource: Any, item: Object) -> bool:
    """Apply an object and tell whether that changed anything."""
    before = _version(client, resource, item)
    try:
        after = _patch(client, resource, item)
    except UnprocessibleEntityError:
        if item["kind"] not in _REPLACEABLE:
            raise
        client.delete(resource, name=item["metadata"]["name"])
        after = _patch(client, resource, item)
    version: str = after.metadata.resourceVersion
    return version != before


def _version(client: DynamicClient, resource: Any, item: Object) -> str | None:
    metadata = item["metadata"]
    try:
        found = client.get(resource, name=metadata["name"], namespace=metadata.get("namespace"))
    except NotFoundError:
        return None
    version: str = found.metadata.resourceVersion
    return version


def _patch(client: DynamicClient, resource: Any, item: Object) -> Any:
    return client.server_side_apply(
        resource,
        body=item,
        name=item["metadata"]["name"],
        namespace=item["metadata"].get("namespace"),
        field_manager=MANAGER,
        force_conflicts=True,
    )


def _wait_established(client: DynamicClient, resource: Any, wave: list[Object]) -> None:
    for item in wave:
        for attempt in tenacity.Retrying(
            stop=tenacity.stop_after_delay(_CRD_LIMIT), wait=tenacity.wait_fixed(0.2), reraise=True
        ):
            with attempt:
                found = client.get(resource, name=item["metadata"]["name"])
                conditions = {c.type: c.status for c in (found.status and found.status.conditions) or []}
                if conditions.get("Established") != "True":
                    raise ApplyError(f"{name(item)}: not served after {_CRD_LIMIT} s; see its conditions")


def _write_mark(client: DynamicClient, objects: Sequence[Object]) -> None:
    mark = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": _MARK,
            "namespace": "kube-system",
            "labels": LABEL,
            "annotations": {_DIGEST: digest(objects)},
        },
    }
    _patch(client, _resource(client, mark), mark)


def _reason(error: BaseException) -> str:
    """Return what the API said, without request headers."""
    body = getattr(error, "body", None)
    if body:
        try:
            return str(json.loads(body)["message"])
        except (ValueError, KeyError, TypeError):
            return str(getattr(error, "reason", error))
    return str(error)
