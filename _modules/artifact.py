"""
Files from the cluster's mirror, checked against their SHA-256.

A file's digest is read once: a note beside Salt's cache remembers it with the file's size and time, so that looking at
gigabytes of programs again costs nothing.
"""

import hashlib
import json
import os
import urllib.request
from pathlib import Path

from salt.exceptions import CommandExecutionError

_NOTES = Path("/var/lib/managed-k8s/artifacts.json")
_BLOCK = 1 << 20


def is_installed(name, sha256):
    """Tell whether a file has this SHA-256.

    CLI Example: ``salt demo-worker-1 artifact.is_installed /usr/local/bin/kubelet SHA256``
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
    return notes[name]["sha256"] == sha256


def install(name, source, sha256, mode="0755"):
    """Download a file, check it, and put it in place as a whole.

    CLI Example: ``salt demo-worker-1 artifact.install /usr/local/bin/kubelet URL SHA256``
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


def _download(source, part):
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(source, timeout=30) as answer, part.open("wb") as file:  # noqa: S310 (from settings)
            while block := answer.read(_BLOCK):
                digest.update(block)
                file.write(block)
    except OSError as error:
        raise CommandExecutionError(f"{source}: {error}") from None
    return digest.hexdigest()


def _stamp(path):
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _read_notes():
    try:
        return json.loads(_NOTES.read_text())
    except (OSError, ValueError):
        return {}


def _remember(name, sha256, stamp):
    _NOTES.parent.mkdir(parents=True, exist_ok=True)
    part = _NOTES.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(_read_notes() | {name: {"sha256": sha256, "stamp": stamp}}))
    part.rename(_NOTES)
