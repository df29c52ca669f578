"""
Programs and container images from the cluster's mirror.
"""


def installed(name, base, files, folder, mode="0755"):
    """
    Install files of the mirror into a folder.

    base: URL that the files' names are below. files: name on the mirror -> SHA-256. folder: where they go.
    """
    targets = {f"{folder}/{path.rpartition('/')[2]}": (path, digest) for path, digest in files.items()}
    missing = {
        target: source for target, source in targets.items() if not __salt__["artifact.is_installed"](target, source[1])
    }
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{len(targets)} files are in {folder}"}
    if not missing:
        return ret
    ret["changes"] = {target: {"old": "", "new": digest} for target, (_, digest) in missing.items()}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{len(missing)} files would be installed in {folder}"}
    for target, (path, digest) in missing.items():
        __salt__["artifact.install"](target, f"{base}/{path}", digest, mode)
    return ret


def images_imported(name, base, images, sums):
    """
    Import container images of the mirror into containerd.

    images: list of archive, reference, digest. sums: archive -> SHA-256.
    """
    present = __salt__["container_image.present"]()
    missing = [image for image in images if present.get(image["reference"]) != image["digest"]]
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{len(images)} images are there"}
    if not missing:
        return ret
    ret["changes"] = {image["reference"]: {"old": "", "new": image["digest"]} for image in missing}
    if __opts__["test"]:
        return ret | {"result": None, "comment": f"{len(missing)} images would be imported"}
    for image in missing:
        __salt__["container_image.import_archive"](f"{base}/{image['archive']}", sums[image["archive"]])
    return ret
