"""The mirror: everything servers download, as one folder that any web server can serve.

Layout and use: docs/mirror.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from lab.cache import Cache
from lab.files import SUMS, link, sums, write_sums
from lab.mirror import debian, pypi, salt, signing
from lab.progress import Report


def build(cache: Cache, kubernetes: Mapping[str, Path], report: Report) -> Path:
    """Return the folder to serve: `kubernetes/<version>/`, `debian/`, `pypi/`, `salt/`, SHA256SUMS and its signature.

    kubernetes: version -> its artifacts' folder, which holds SHA256SUMS.
    """
    parts = _packages(cache, report)
    key = signing.key(cache)
    # The parts of ours are named by their inputs, artifacts by the sums of their files.
    inputs: list[str | Path] = [Path(__file__), *(part.name for part in parts.values())]
    parts |= {f"kubernetes/{version}": folder for version, folder in kubernetes.items()}
    for version, folder in sorted(kubernetes.items()):
        inputs += [version, folder / SUMS]

    def make(folder: Path) -> None:
        with report.step("Assemble the mirror"):
            for name, part in parts.items():
                shutil.copytree(part, folder / name, copy_function=link)
            write_sums(folder, sums(folder))
            signing.detach_sign(key, folder / SUMS, folder / f"{SUMS}.gpg")

    return cache.entry("mirror", inputs, make)


def fetch(cache: Cache, report: Report) -> None:
    """Get the packages of the mirror; to be run while the artifacts are built."""
    _packages(cache, report)


def _packages(cache: Cache, report: Report) -> dict[str, Path]:
    python = pypi.build(cache, report)
    return {"debian": debian.build(cache, report), "pypi": python, "salt": salt.build(cache, python, report)}


def export(mirror: Path, target: Path) -> None:
    """Copy the mirror to where a site takes it from; the copy shares no file with the cache.

    Raises FileExistsError when the target holds anything: old packages must not stay beside new ones.
    """
    if target.exists() and any(target.iterdir()):
        raise FileExistsError(f"{target}: not empty; name a new or empty folder")
    shutil.copytree(mirror, target, dirs_exist_ok=True)
