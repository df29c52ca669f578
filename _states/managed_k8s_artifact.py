"""
Programs and container images from the cluster's mirror.
"""

from __future__ import annotations

from typing import Any

__opts__: dict[str, Any]
__salt__: dict[str, Any]


def __virtual__() -> bool | tuple[bool, str]:
    has_module = "managed_k8s_artifact.install" in __salt__
    return has_module or (
        False,
        "the execution module managed_k8s_artifact is not here; saltutil.sync_modules brings it",
    )


def installed(name: str, base: str, files: dict[str, str], folder: str, mode: str = "0755") -> dict[str, Any]:
    """
    Install files of the mirror into a folder.

    base: URL that the files' names are below. files: name on the mirror -> SHA-256. folder: where they go.
    """
    targets = {f"{folder}/{path.rpartition('/')[2]}": (path, digest) for path, digest in files.items()}
    missing = {
        target: source
        for target, source in targets.items()
        if not __salt__["managed_k8s_artifact.is_installed"](target, source[1])
    }
    ret: dict[str, Any] = {
        "name": name,
        "result": True,
        "changes": {},
        "comment": f"{len(targets)} files are in {folder}",
    }
    if not missing:
        return ret
    ret["changes"] = {target: {"old": "", "new": digest} for target, (_, digest) in missing.items()}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{len(missing)} files would be installed in {folder}"}
    for target, (path, digest) in missing.items():
        __salt__["managed_k8s_artifact.install"](target, f"{base}/{path}", digest, mode)
    return ret


def images_imported(name: str, base: str, images: list[dict[str, str]], sums: dict[str, str]) -> dict[str, Any]:
    """
    Import container images of the mirror into containerd.

    images: list of archive, reference, digest. sums: archive -> SHA-256.
    """
    present = __salt__["managed_k8s_images.present"]()
    missing = [image for image in images if present.get(image["reference"]) != image["digest"]]
    ret: dict[str, Any] = {"name": name, "result": True, "changes": {}, "comment": f"{len(images)} images are there"}
    if not missing:
        return ret
    ret["changes"] = {image["reference"]: {"old": "", "new": image["digest"]} for image in missing}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{len(missing)} images would be imported"}
    for image in missing:
        __salt__["managed_k8s_images.import_archive"](f"{base}/{image['archive']}", sums[image["archive"]])
    return ret
