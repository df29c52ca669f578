"""
Container images in containerd, as Kubernetes sees them.
"""

from __future__ import annotations

import importlib
import tempfile
from pathlib import Path
from typing import Any

import managed_k8s_common as common

importlib.reload(common)
__salt__: dict[str, Any]

_LIMIT = 900


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def present() -> dict[str, str]:
    """Return the images: reference -> digest.

    CLI Example: ``salt demo-worker-1 managed_k8s_images.present``
    """
    lines = _ctr("list").splitlines()[1:]
    return {words[0]: words[2] for words in (line.split() for line in lines) if len(words) > 2}


def import_archive(source: str, sha256: str) -> None:
    """Download an OCI archive, check it, import it and remove it.

    CLI Example: ``salt demo-worker-1 managed_k8s_images.import_archive URL SHA256``
    """
    with tempfile.TemporaryDirectory(prefix="managed-k8s-", dir="/var/lib/managed-k8s") as folder:
        archive = Path(folder) / "image.tar"
        __salt__["managed_k8s_artifact.install"](str(archive), source, sha256, "0600")
        # --all-platforms=false: the archives hold the server's own platform only.
        _ctr("import", "--all-platforms=false", str(archive))


def _ctr(*words: str) -> str:
    return common.run(str(common.PROGRAMS / "ctr"), "--namespace=k8s.io", "images", *words, limit=_LIMIT)
