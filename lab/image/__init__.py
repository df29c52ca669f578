"""The server image: Debian 12 as clouds offer it, for servers that are system containers.

cloud-init brings the ssh key, hostname, network and user_data from the config drive or the metadata service.
There is nothing of Kubernetes or Salt in it, and nothing secret.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from lab import apt
from lab.cache import Cache
from lab.command import run
from lab.progress import Report

HERE = Path(__file__).parent
PACKAGES = HERE / "packages.list"

# Manual pages, translations and documentation except licences: a fifth of the image.
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
_KEPT = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")


def build(cache: Cache, report: Report) -> Path:
    """Return a folder with the image: `server.tar`, uncompressed, numeric owners, extended attributes.

    Needs root, mmdebstrap, and Debian's bookworm among the machine's apt sources.
    Raises apt.AptError or CommandError.
    """
    sources = apt.source_files()
    inputs = [HERE, *sources]

    def make(folder: Path) -> None:
        with report.step("Build the server image"):
            _bootstrap(folder / "server.tar", sources)

    return cache.entry("image", inputs, make)


def _bootstrap(tar: Path, sources: list[Path]) -> None:
    filters = [f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT]
    filters += [f"--dpkgopt=path-include={path}" for path in _KEPT]
    with tempfile.NamedTemporaryFile("w", prefix="lab-apt-", suffix=".conf") as settings:
        settings.write(apt.settings())
        settings.flush()
        run(
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            "--format=tar",
            "--include=" + ",".join(apt.read_packages(PACKAGES)),
            f"--aptopt={settings.name}",
            *filters,
            f'--customize-hook={HERE / "customize"} "$1"',
            apt.RELEASE,
            tar,
            *sources,
            env={"LC_ALL": "C.UTF-8"},
        )
