"""What the mirror offers: digests of its files, and versions of what is in it."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import filelock
import requests

from managed_k8s.config.settings import Settings
from managed_k8s.errors import Error
from managed_k8s.state.store import Store

SUMS = "SHA256SUMS"
DEBIAN_KEY = "debian/mirror.gpg"
_TIMEOUT = (5, 30)


class MirrorError(Error):
    """The mirror does not have something, or has something else than before; the message says what to do."""


def sums(text: str) -> dict[str, str]:
    """Return name -> SHA-256 of a SHA256SUMS file's text."""
    pairs = (line.split(maxsplit=1) for line in text.splitlines() if line.strip())
    return {name.strip().removeprefix("*").removeprefix("./"): digest for digest, name in pairs}


def fetch(url: str) -> bytes:
    """Return a file. Raises MirrorError."""
    try:
        answer = requests.get(url, timeout=_TIMEOUT)
        answer.raise_for_status()
    except requests.RequestException as error:
        raise MirrorError(f"{url}: {error}; artifacts.url must be the address of a mirror (docs/mirror.md)") from None
    return answer.content


def download(url: str, digest: str, target: Path) -> None:
    """Write a file of any size, whole and with this SHA-256, or not at all. Raises MirrorError."""
    part = target.with_name(f".{target.name}.{os.getpid()}")
    found = hashlib.sha256()
    try:
        with requests.get(url, timeout=_TIMEOUT, stream=True) as answer, part.open("wb") as file:
            answer.raise_for_status()
            for piece in answer.iter_content(1 << 20):
                found.update(piece)
                file.write(piece)
        if found.hexdigest() != digest:
            raise MirrorError(f"{url}: has SHA-256 {found.hexdigest()}, not {digest}; copy the mirror again")
        part.rename(target)
    except requests.RequestException as error:
        raise MirrorError(f"{url}: {error}; artifacts.url must be the address of a mirror (docs/mirror.md)") from None
    finally:
        part.unlink(missing_ok=True)


def sum_of(url: str) -> str:
    """Return the SHA-256 that the mirror's own list gives for one of its files. Raises MirrorError."""
    parts = urlsplit(url)
    listed = sums(fetch(f"{parts.scheme}://{parts.netloc}/{SUMS}").decode())
    name = parts.path.lstrip("/")
    if name not in listed:
        raise MirrorError(f"{url}: is not in the mirror's {SUMS}; set minion_archive_sha256")
    return listed[name]


def artifacts(store: Store, settings: Settings) -> dict[str, Any]:
    """Return what the mirror has for the cluster's Kubernetes version.

    The answer has `base` (URL), `sums` (file -> SHA-256), `versions` (versions.json), `debian_key` (SHA-256). The list
    of digests is fetched
    once, checked against artifacts.sha256 or trusted at first sight, and kept: what servers install never changes
    behind it. Raises MirrorError.
    """
    version, wanted = settings.kubernetes.version, settings.artifacts.sha256
    base = f"{settings.artifacts.url}/kubernetes/{version}"
    name = f"artifacts-{version}.json"
    with filelock.FileLock(store.path(".artifacts.lock")):
        kept = store.read(name)
        if kept is None or kept["base"] != base or wanted not in (None, kept["digest"]):
            kept = _fetch_artifacts(base, wanted)
            if settings.artifacts.debian:
                kept["debian_key"] = sum_of(f"{settings.artifacts.url}/{DEBIAN_KEY}")
            store.write(name, kept)
    return dict(kept)


def _fetch_artifacts(base: str, wanted: str | None) -> dict[str, Any]:
    listed = fetch(f"{base}/{SUMS}")
    digest = hashlib.sha256(listed).hexdigest()
    if wanted not in (None, digest):
        raise MirrorError(f"{base}/{SUMS}: has SHA-256 {digest}, not that of artifacts.sha256, {wanted}")
    found = sums(listed.decode())
    versions = fetch(f"{base}/versions.json")
    if hashlib.sha256(versions).hexdigest() != found.get("versions.json"):
        raise MirrorError(f"{base}/versions.json: is not what {SUMS} says; copy the mirror again")
    return {"base": base, "digest": digest, "sums": found, "versions": json.loads(versions)}


def lacking(found: Mapping[str, Any]) -> list[str]:
    """Return what the mirror's own list lacks of a version.

    found: as artifacts() returns it.
    """
    needed = {"bin/kubeadm", "bin/kubelet", "bin/kubectl", *(image["archive"] for image in found["versions"]["images"])}
    return sorted(needed - set(found["sums"]))


def missing(found: Mapping[str, Any]) -> list[str]:
    """Return which files of a version the mirror lists and does not have; the files themselves are not fetched."""
    names = sorted(name for name in found["sums"] if name.startswith(("bin/", "cni/", "images/", "manifests/")))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        there = pool.map(lambda name: _is_there(f"{found['base']}/{name}"), names)
        return [name for name, is_there in zip(names, there, strict=True) if not is_there]


def _is_there(url: str) -> bool:
    try:
        return requests.head(url, timeout=_TIMEOUT, allow_redirects=True).ok
    except requests.RequestException:
        return False
