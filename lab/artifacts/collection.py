"""The folder of a Kubernetes version: components and images laid out for servers, with checksums."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lab.artifacts import matrix
from lab.command import run
from lab.files import link, sha256, sums, write_sums

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
            link(components[component] / "bin" / name, folder / target / name)
    for name, source in archives.items():
        link(source / f"{name}.tar", folder / "images" / f"{name}.tar")
    for source in components.values():
        for path in (source / "manifests").rglob("*"):
            if path.is_file():
                link(path, folder / path.relative_to(source))
    digests = sums(folder)
    versions = _versions(release, components, archives, base, digests, folder)
    (folder / VERSIONS).write_text(json.dumps(versions, indent=1) + "\n")
    write_sums(folder, dict(sorted((digests | {VERSIONS: sha256(folder / VERSIONS)}).items())))


def _check_images(release: matrix.Release, kubeadm: Path) -> None:
    wanted = run(kubeadm, "config", "images", "list", "--kubernetes-version", f"v{release.kubernetes}").split()
    missing = set(wanted) - {image.reference for image in release.images}
    if missing:
        raise RuntimeError(
            f"matrix.toml: Kubernetes {release.kubernetes}: kubeadm wants {', '.join(sorted(missing))}, "
            "which are not made: change the pins or tags of this version"
        )


def _versions(
    release: matrix.Release,
    components: dict[str, Path],
    archives: dict[str, Path],
    base: Path,
    digests: dict[str, str],
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
        "images": [_image(image, archives[image.archive], digests) for image in release.images],
        "files": {
            name: {"sha256": digest, "bytes": (folder / name).stat().st_size} for name, digest in digests.items()
        },
    }


def _image(image: matrix.Image, source: Path, digests: dict[str, str]) -> dict[str, str]:
    archive = f"images/{image.archive}.tar"
    digest = (source / "digest").read_text().strip()
    return {"name": image.name, "tag": image.tag, "archive": archive, "sha256": digests[archive], "digest": digest}
