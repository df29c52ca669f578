"""Small things that are done with files in more than one place."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

SUMS = "SHA256SUMS"


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file, whole or not at all, that is never readable for others for a moment."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_CREAT | os.O_WRONLY | os.O_EXCL, mode), "w") as file:
        file.write(text)
    part.rename(path)


def link(source: str | Path, target: str | Path) -> None:
    """Give a file a second name; where that would span file systems, a copy.  The target's folder is made."""
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex digits."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def sums(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder by its relative name, but for its SHA256SUMS."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / SUMS)
    return {str(path.relative_to(folder)): sha256(path) for path in files}


def write_sums(folder: Path, digests: Mapping[str, str]) -> None:
    """Write a folder's SHA256SUMS, for `sha256sum --check`: name -> digest, in the order given."""
    (folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))
