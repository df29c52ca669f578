"""The lab's cache: what is expensive to make, kept by the inputs it was made from.

An entry is a folder `<root>/<name>/<key>`, where the key is a digest of everything that decides its content.
A changed input makes a new entry and leaves the others alone; an interrupted build leaves nothing behind
that could be taken for a finished one.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import filelock

Input = str | bytes | Path


def key(inputs: Iterable[Input]) -> str:
    """Digest the inputs into 16 hex digits.

    inputs: strings and bytes count as they are; a file counts by its content and its mode, a folder by every file
    below it and their relative names, so that where the checkout lies does not matter.
    """
    digest = hashlib.sha256()
    for item in inputs:
        for label, data in _parts(item):
            digest.update(f"{len(label)}:{label}:{len(data)}:".encode())
            digest.update(data)
    return digest.hexdigest()[:16]


def _parts(item: Input) -> Iterable[tuple[str, bytes]]:
    if isinstance(item, str):
        yield "text", item.encode()
    elif isinstance(item, bytes):
        yield "bytes", item
    elif item.is_dir():
        for path in sorted(p for p in item.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            yield str(path.relative_to(item)) + _mode(path), path.read_bytes()
    else:
        yield item.name + _mode(item), item.read_bytes()


def _mode(path: Path) -> str:
    return " executable" if path.stat().st_mode & 0o100 else ""


class Cache:
    """Entries below one root folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str, inputs: Iterable[Input]) -> Path:
        """Return where the entry is, or would be."""
        return self.root / name / key(inputs)

    def entry(self, name: str, inputs: Iterable[Input], make: Callable[[Path], None]) -> Path:
        """Return the entry's folder, making it first if it is not there.

        make: called with an empty folder to fill; when it raises, nothing is kept and the error goes on.
        Two processes that ask for the same entry at once make it once.
        """
        done = self.path(name, inputs)
        if done.is_dir():
            return done
        done.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(f"{done}.lock"):
            if not done.is_dir():
                self._make(done, make)
        return done

    @staticmethod
    def _make(done: Path, make: Callable[[Path], None]) -> None:
        part = done.with_name(done.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        make(part)
        part.rename(done)
