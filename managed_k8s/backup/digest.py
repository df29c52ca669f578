"""Digests of a snapshot while it passes by."""

from __future__ import annotations

import hashlib
from pathlib import Path

# `etcdctl snapshot save` ends the file with the SHA-256 of all before it (etcd client/v3/snapshot/v3_snapshot.go).
_LENGTH = hashlib.sha256().digest_size
_BLOCK = 1 << 20


class Seal:
    """Reads a snapshot once, in pieces of any size."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._end = b""
        self.size = 0

    def update(self, piece: bytes) -> None:
        """Take the next piece."""
        self.size += len(piece)
        if len(piece) >= _LENGTH:
            self._digest.update(self._end)
            self._digest.update(memoryview(piece)[:-_LENGTH])
            self._end = piece[-_LENGTH:]
        else:
            held = self._end + piece
            self._digest.update(held[:-_LENGTH])
            self._end = held[-_LENGTH:]

    @property
    def end(self) -> str:
        """The digest that etcdctl put at the end, in hexadecimal."""
        return self._end.hex()

    @property
    def sha256(self) -> str:
        """The digest of everything, in hexadecimal."""
        whole = self._digest.copy()
        whole.update(self._end)
        return whole.hexdigest()

    @property
    def is_whole(self) -> bool:
        """Whether the end says of the rest what the rest is."""
        return len(self._end) == _LENGTH and self._digest.digest() == self._end

    @classmethod
    def of(cls, file: Path) -> Seal:
        """Return the seal of a file."""
        seal = cls()
        with file.open("rb") as source:
            while piece := source.read(_BLOCK):
                seal.update(piece)
        return seal
