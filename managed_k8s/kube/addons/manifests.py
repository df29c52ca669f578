"""Upstream's manifests: fetched from the mirror, parsed, and fitted to the images that the mirror has."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from managed_k8s.artifacts import mirror
from managed_k8s.errors import Error

Object = dict[str, Any]

FOLDER = "manifests/"
# Restarts a CSI plugin that hangs. A mirror may lack it: the plugin is then without that probe.
_PROBE = "livenessprobe"


class ManifestError(Error):
    """A manifest or an image of the mirror is missing or not what it should be; the message names all of them."""


def fetch(artifacts: Mapping[str, Any]) -> dict[str, str]:
    """Return path below manifests/ -> text of all manifests of a Kubernetes version, checked by SHA-256.

    artifacts: `base` (URL) and `sums` (file -> SHA-256), as managed_k8s.mirror.artifacts gives them.
    Raises ManifestError, mirror.MirrorError.
    """
    names = [name for name in artifacts["sums"] if name.startswith(FOLDER)]
    with ThreadPoolExecutor(8) as pool:
        contents = dict(
            zip(names, pool.map(lambda name: mirror.fetch(f"{artifacts['base']}/{name}"), names), strict=True)
        )
    wrong = [name for name, data in contents.items() if hashlib.sha256(data).hexdigest() != artifacts["sums"][name]]
    if wrong:
        raise ManifestError(
            f"{artifacts['base']}: not what its SHA256SUMS says: {', '.join(wrong)}; copy the mirror again"
        )
    return {name.removeprefix(FOLDER): data.decode() for name, data in contents.items()}


def read(folder: Path) -> dict[str, str]:
    """Return path -> text of all manifests below a folder."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def load(manifests: Mapping[str, str], *names: str) -> list[Object]:
    """Return the objects in some of the manifests; lists are taken apart.

    names: their paths.
    Raises ManifestError when one is missing.
    """
    absent = [name for name in names if name not in manifests]
    if absent:
        raise ManifestError(f"the mirror lacks the manifests {', '.join(absent)}; copy or build it again")
    return [item for name in names for document in yaml.safe_load_all(manifests[name]) for item in _items(document)]


def _items(document: Any) -> Iterator[Object]:
    if document and document["kind"] == "List":
        yield from document["items"]
    elif document:
        yield document


def only(objects: Iterable[Object], kind: str) -> Object:
    """Return the one object of a kind. Raises ManifestError when there is another number of them."""
    found = [item for item in objects if item["kind"] == kind]
    if len(found) != 1:
        raise ManifestError(f"expected one {kind} in upstream's manifests, found {len(found)}; the mirror is too new")
    return found[0]


def pod(workload: Object) -> Object:
    """Return the pod's specification of a Deployment or DaemonSet."""
    specification: Object = workload["spec"]["template"]["spec"]
    return specification


def containers(specification: Object) -> list[Object]:
    """Return all containers of a pod, initial ones first."""
    return [*specification.get("initContainers", []), *specification["containers"]]


def container(workload: Object, name: str) -> Object:
    """Return a container by its name. Raises ManifestError."""
    found: Object | None = next((one for one in containers(pod(workload)) if one["name"] == name), None)
    if found is None:
        raise ManifestError(f"{workload['metadata']['name']}: upstream's manifest has no container {name} any more")
    return found


def drop_volumes(specification: Object, *names: str) -> None:
    """Take volumes away from a pod, and their mounts from its containers."""
    specification["volumes"] = [one for one in specification.get("volumes", []) if one["name"] not in names]
    for each in containers(specification):
        if "volumeMounts" in each:
            each["volumeMounts"] = [mount for mount in each["volumeMounts"] if mount["name"] not in names]


class Images:
    """The images of a mirror by the last part of their name, whatever registry they carry."""

    def __init__(self, versions: Mapping[str, Any]) -> None:
        self._references = {
            image["name"].rsplit("/", 1)[-1]: f"{image['name']}:{image['tag']}" for image in versions["images"]
        }

    def reference(self, name: str) -> str:
        """Return what an image is called on the nodes, like `registry.k8s.io/pause:3.10.2`. Raises ManifestError."""
        if name not in self._references:
            raise ManifestError(f"the mirror has no image {name}; it has {', '.join(sorted(self._references))}")
        return self._references[name]

    def fit(self, workload: Object) -> None:
        """Set the images of a workload to those on the nodes, which are never pulled again. Raises ManifestError."""
        specification = pod(workload)
        if _PROBE not in self._references:
            _drop_probe(specification)
        names = [_name(each["image"]) for each in containers(specification)]
        absent = sorted({name for name in names if name not in self._references})
        if absent:
            raise ManifestError(f"{workload['metadata']['name']}: the mirror has no image {', '.join(absent)}")
        for each in containers(specification):
            each["image"] = self._references[_name(each["image"])]
            each["imagePullPolicy"] = "IfNotPresent"


def _name(reference: str) -> str:
    return reference.rsplit("/", 1)[-1].partition(":")[0]


def _drop_probe(specification: Object) -> None:
    if all(_name(each["image"]) != _PROBE for each in specification["containers"]):
        return
    kept = [each for each in specification["containers"] if _name(each["image"]) != _PROBE]
    for each in kept:
        each.pop("livenessProbe", None)
        each.pop("ports", None)
    specification["containers"] = kept
