"""The images of a release, each packed as an entry of the cache."""

from __future__ import annotations

from pathlib import Path

from lab.artifacts import debian, matrix, oci
from lab.cache import Cache, Input
from lab.progress import Report

_PASSWD = b"""\
root:x:0:0:root:/root:/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin
nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin
"""
_GROUP = b"root:x:0:\nnobody:x:65534:\nnonroot:x:65532:\n"


def build(cache: Cache, release: matrix.Release, programs: dict[str, Path], report: Report) -> dict[str, Path]:
    """Pack a release's images; return archive name -> folder with `<archive>.tar` and `digest` (its manifest's).

    programs: component -> folder with its `bin/`.
    """
    base = debian.base(cache, report)
    bases = {"scratch": (), "static": (_static(cache, base),), "debian": (oci.Layer.load(base),)}
    result = {}
    for number, image in enumerate(release.images, 1):
        title = f"Pack image {image.archive} {image.tag} ({number}/{len(release.images)})"
        result[image.archive] = _image(cache, image, bases[image.base], programs, report, title)
    return result


def _static(cache: Cache, base: Path) -> oci.Layer:
    """Return the base layer of images whose programs need nothing else: users, CA certificates and /tmp."""
    files: oci.Files = {
        "/etc/group": _GROUP,
        "/etc/nsswitch.conf": b"hosts: files dns\n",
        "/etc/passwd": _PASSWD,
        "/etc/ssl/certs/ca-certificates.crt": base / "ca-certificates.crt",
        "/home/nonroot": 0o755,
        "/root": 0o700,
        "/tmp": 0o1777,  # noqa: S108  a path in the image
    }
    inputs: list[Input] = [Path(__file__), Path(oci.__file__), base.name]
    folder = cache.entry("artifacts-static", inputs, lambda part: _write_static(part, files))
    return oci.Layer.load(folder)


def _write_static(folder: Path, files: oci.Files) -> None:
    oci.write_layer(folder, files, executable=False)


def _image(
    cache: Cache,
    image: matrix.Image,
    base: tuple[oci.Layer, ...],
    programs: dict[str, Path],
    report: Report,
    title: str,
) -> Path:
    sources = {path: _program(programs, source) for path, source in image.files.items()}

    def make(folder: Path) -> None:
        with report.step(title):
            layer = oci.write_layer(folder, sources)
            digest = oci.write_archive(folder / f"{image.archive}.tar", image, [*base, layer])
            (folder / "digest").write_text(digest + "\n")
            layer.blob.unlink()  # it is in the archive

    entries = [programs[source.partition("/")[0]].name for source in image.files.values()]
    inputs: list[Input] = [repr(image), Path(oci.__file__), *(layer.digest for layer in base), *entries]
    return cache.entry(f"artifacts-image-{image.archive}", inputs, make)


def _program(programs: dict[str, Path], source: str) -> Path:
    component, _, program = source.partition("/")
    return programs[component] / "bin" / program
