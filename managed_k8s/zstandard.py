"""What zstd packed, unpacked by its own command line: Python learns it in 3.14."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MAGIC = b"\x28\xb5\x2f\xfd"


class ZstandardError(RuntimeError):
    """zstd is not installed."""


@contextlib.contextmanager
def unpacking(file: Path) -> Iterator[IO[bytes]]:
    """Give what is in a file as it is unpacked; it ends early when the file is damaged. Raises ZstandardError."""
    with _running(file) as zstd:
        assert zstd.stdout is not None  # noqa: S101 (for the type checker)
        yield zstd.stdout


def unpacked(file: Path, most: int) -> bytes | None:
    """Return what is in a file, or None when it is not whole, or longer than so many bytes. Raises ZstandardError."""
    with _running(file) as zstd:
        assert zstd.stdout is not None  # noqa: S101 (for the type checker)
        content = zstd.stdout.read(most + 1)
    return content if zstd.returncode == 0 and len(content) <= most else None


@contextlib.contextmanager
def _running(file: Path) -> Iterator[subprocess.Popen[bytes]]:
    program = shutil.which("zstd")
    if program is None:
        raise ZstandardError("zstd is not installed on the Salt master: apt-get install zstd")
    words = (program, "--decompress", "--stdout", "--quiet", str(file))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as zstd:
        yield zstd
