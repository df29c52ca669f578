"""
Files from the cluster's mirror, checked against their SHA-256.

A file's digest is read once: a note beside Salt's cache remembers it with the file's size and time, so that looking at
gigabytes of programs again costs nothing.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import urllib.request
from pathlib import Path
from typing import Any

import managed_k8s_common as common
from salt.exceptions import CommandExecutionError

importlib.reload(common)

_NOTES = Path("/var/lib/managed-k8s/artifacts.json")
_BLOCK = 1 << 20


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def is_installed(name: str, sha256: str) -> bool:
    """Tell whether a file has this SHA-256.

    CLI Example: ``salt demo-worker-1 managed_k8s_artifact.is_installed /usr/local/bin/kubelet SHA256``
    """
    path = Path(name)
    if not path.is_file():
        return False
    notes, stamp = _read_notes(), _stamp(path)
    if notes.get(name, {}).get("stamp") != stamp:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        _remember(name, digest, stamp)
        notes = _read_notes()
    return bool(notes[name]["sha256"] == sha256)


def install(name: str, source: str, sha256: str, mode: str = "0755") -> bool:
    """Download a file, check it, and put it in place as a whole.

    CLI Example: ``salt demo-worker-1 managed_k8s_artifact.install /usr/local/bin/kubelet URL SHA256``
    """
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        digest = _download(source, part)
        if digest != sha256:
            raise CommandExecutionError(f"{source}: has SHA-256 {digest}, not {sha256}; is the mirror complete?")
        part.chmod(int(mode, 8))
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)
    _remember(name, sha256, _stamp(path))
    return True


def _download(source: str, part: Path) -> str:
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(source, timeout=30) as answer, part.open("wb") as file:  # noqa: S310 (from settings)
            while block := answer.read(_BLOCK):
                digest.update(block)
                file.write(block)
    except OSError as error:
        raise CommandExecutionError(f"{source}: {error}") from None
    return digest.hexdigest()


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _read_notes() -> dict[str, dict[str, Any]]:
    try:
        notes: dict[str, dict[str, Any]] = json.loads(_NOTES.read_text())
    except (OSError, ValueError):
        return {}
    return notes


def _remember(name: str, sha256: str, stamp: list[int]) -> None:
    _NOTES.parent.mkdir(parents=True, exist_ok=True)
    part = _NOTES.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(_read_notes() | {name: {"sha256": sha256, "stamp": stamp}}))
    part.rename(_NOTES)
