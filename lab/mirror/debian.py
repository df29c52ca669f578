"""The mirror's apt repository: the servers' packages and everything they depend on."""

from __future__ import annotations

import email.utils
import gzip
import hashlib
from pathlib import Path

from lab import apt, image
from lab.cache import Cache
from lab.command import run
from lab.mirror import signing
from lab.progress import Report

PACKAGES = Path(__file__).parent / "packages.list"
_INDEX = "main/binary-amd64/Packages"


def build(cache: Cache, report: Report) -> Path:
    """Return a folder with the repository: `pool/`, `dists/bookworm/` and `mirror.gpg`, the key it is signed with."""
    key = signing.key(cache)

    def make(folder: Path) -> None:
        with report.step("Download the servers' Debian packages"):
            # The image's own packages too: a server can always go up to the mirror's version of a library.
            debs = apt.download({*apt.read_packages(PACKAGES), *apt.read_packages(image.PACKAGES)}, folder)
            stanzas = [stanza(_into_pool(folder, deb), folder) for deb in debs]
            write_index(folder, stanzas)
            release = folder / "dists" / apt.RELEASE
            signing.clear_sign(key, release / "Release", release / "InRelease")
            (folder / signing.PUBLIC).write_bytes((key / signing.PUBLIC).read_bytes())

    inputs = [Path(__file__), PACKAGES, image.PACKAGES, key / signing.PUBLIC, *apt.source_files()]
    return cache.entry("mirror-debian", inputs, make)


def _into_pool(folder: Path, deb: Path) -> Path:
    # "Source: name (version)" is there only where it differs from the package.
    package, source, version = (
        run("dpkg-deb", "--show", "--showformat", "${Package}|${source:Package}|${Version}", deb).strip().split("|")
    )
    architecture = deb.stem.rpartition("_")[2]
    initial = source[:4] if source.startswith("lib") else source[0]
    # As in Debian's own pool, the epoch is not part of the name.
    name = f"{package}_{version.partition(':')[2] or version}_{architecture}.deb"
    place = folder / "pool/main" / initial / source / name
    place.parent.mkdir(parents=True, exist_ok=True)
    return deb.rename(place)


def stanza(deb: Path, folder: Path) -> str:
    """Return a package's paragraph of the index: its control file and where it lies.

    folder: the repository, which the file name is relative to.
    """
    data = deb.read_bytes()
    return (
        run("dpkg-deb", "--field", deb).strip()
        + f"\nFilename: {deb.relative_to(folder)}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
    )


def write_index(folder: Path, stanzas: list[str]) -> None:
    """Write `Packages` and the `Release` that vouches for it.

    Format: https://wiki.debian.org/DebianRepository/Format
    """
    release = folder / "dists" / apt.RELEASE
    index = release / _INDEX
    index.parent.mkdir(parents=True)
    index.write_text("\n".join(stanzas))
    index.with_suffix(".gz").write_bytes(gzip.compress(index.read_bytes(), mtime=0))
    sums = []
    for path in (index, index.with_suffix(".gz")):
        data = path.read_bytes()
        sums.append(f" {hashlib.sha256(data).hexdigest()} {len(data)} {path.relative_to(release)}")
    fields = {
        "Origin": "managed-k8s",
        "Label": "managed-k8s mirror",
        "Suite": apt.RELEASE,
        "Codename": apt.RELEASE,
        "Date": email.utils.formatdate(usegmt=True).replace("GMT", "UTC"),
        "Architectures": "amd64",
        "Components": "main",
        "SHA256": "\n" + "\n".join(sums),
    }
    (release / "Release").write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
