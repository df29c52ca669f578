"""The mirror's signing key: made once, its secret half never served."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lab.cache import Cache
from lab.command import run

PUBLIC = "mirror.gpg"
_PRIVATE = "private.gpg"
_OWNER = "managed-k8s mirror"


def key(cache: Cache) -> Path:
    """Return the folder (mode 0700) with the key pair; its file PUBLIC is for everyone.

    The key does not expire: an air-gapped site has nobody to renew it. Without it in the cache a new one is made.
    """
    return cache.entry("mirror-key", [_OWNER], _generate)


def _generate(folder: Path) -> None:
    folder.chmod(0o700)
    with _gpg() as gpg:
        run(*gpg, "--passphrase", "", "--quick-generate-key", _OWNER, "ed25519", "sign", "never")
        run(*gpg, "--output", folder / PUBLIC, "--export", _OWNER)
        run(*gpg, "--output", folder / _PRIVATE, "--export-secret-keys", _OWNER)


def clear_sign(key: Path, source: Path, target: Path) -> None:
    """Write a text with its signature around it, as apt wants InRelease."""
    _sign(key, source, target, "--clear-sign")


def detach_sign(key: Path, source: Path, target: Path) -> None:
    """Write a file's signature, for `gpgv --keyring mirror.gpg SIGNATURE FILE`."""
    _sign(key, source, target, "--detach-sign")


def _sign(key: Path, source: Path, target: Path, how: str) -> None:
    with _gpg() as gpg:
        run(*gpg, "--import", key / _PRIVATE)
        run(*gpg, "--output", target, how, source)


@contextlib.contextmanager
def _gpg() -> Iterator[list[str]]:
    """A gpg command line with a home of its own, whose agent ends with it."""
    with tempfile.TemporaryDirectory(prefix="lab-gpg-") as home:
        try:
            yield ["gpg", "--homedir", home, "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"]
        finally:
            run("gpgconf", "--homedir", home, "--kill", "gpg-agent")
