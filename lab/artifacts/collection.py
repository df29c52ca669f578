"""The folder of a Kubernetes version: components and images laid out for servers, with checksums."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from lab.artifacts import matrix, oci
from lab.command import run

SUMS = "SHA256SUMS"
VERSIONS = "versions.json"


def collect(
    folder: Path, release: matrix.Release, components: dict[str, Path], archives: dict[str, Path], base: Path
) -> None:
    """Fill a folder with a release's files, `versions.json` and `SHA256SUMS`.

    components, archives: where the built ones are, by name. base: the Debian base layer's folder.
    Raises RuntimeError when kubeadm asks for an image that is not among them.
    """
    _check_images(release, components["kubernetes"] / "bin" / "kubeadm")
    for target, programs in release.install.items():
        for program in programs:
            component, _, name = program.partition("/")
            _link(components[component] / "bin" / name, folder / target / name)
    for name, source in archives.items():
        _link(source / f"{name}.tar", folder / "images" / f"{name}.tar")
    for source in components.values():
        for path in (source / "manifests").rglob("*"):
            if path.is_file():
                _link(path, folder / path.relative_to(source))
    sums = {str(path.relative_to(folder)): oci.sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    versions = _versions(release, components, archives, base, sums, folder)
    (folder / VERSIONS).write_text(json.dumps(versions, indent=1) + "\n")
    sums[VERSIONS] = oci.sha256(folder / VERSIONS)
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items())))


def _check_images(release: matrix.Release, kubeadm: Path) -> None:
    wanted = run(kubeadm, "config", "images", "list", "--kubernetes-version", f"v{release.kubernetes}").split()
    missing = set(wanted) - {image.reference for image in release.images}
    if missing:
        raise RuntimeError(
            f"matrix.toml: Kubernetes {release.kubernetes}: kubeadm wants {', '.join(sorted(missing))}, "
            "which are not made: change the pins or tags of this version"
        )


def _link(source: Path, target: Path) -> None:
    """Give a file a second name; where the cache spans file systems, a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy(source, target)


def _versions(
    release: matrix.Release,
    components: dict[str, Path],
    archives: dict[str, Path],
    base: Path,
    sums: dict[str, str],
    folder: Path,
) -> dict[str, Any]:
    return {
        "kubernetes": release.kubernetes,
        "components": {
            name: {
                "version": component.version,
                "modules": json.loads((components[name] / "modules.json").read_text()),
            }
            for name, component in sorted(release.components.items())
        },
        "debian": json.loads((base / "packages.json").read_text()),
        "images": [_image(image, archives[image.archive], sums) for image in release.images],
        "files": {name: {"sha256": digest, "bytes": (folder / name).stat().st_size} for name, digest in sums.items()},
    }


def _image(image: matrix.Image, source: Path, sums: dict[str, str]) -> dict[str, str]:
    archive = f"images/{image.archive}.tar"
    digest = (source / "digest").read_text().strip()
    return {"name": image.name, "tag": image.tag, "archive": archive, "sha256": sums[archive], "digest": digest}
