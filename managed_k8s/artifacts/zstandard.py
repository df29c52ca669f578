"""What zstd packed, unpacked by its own command line: Python learns it in 3.14."""

from __future__ import annotations

import concurrent.futures
import contextlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from managed_k8s.errors import Error

MAGIC = b"\x28\xb5\x2f\xfd"
# What anybody may have in a pipe (/proc/sys/fs/pipe-max-size): a full one of 64 kB stops its writer often.
_BLOCK = 1 << 20


class ZstandardError(Error):
    """zstd is not installed."""


class DamagedError(Error):
    """What is to be unpacked is damaged, or not all of it."""


def unpacked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what was packed, in blocks of at most a megabyte, while the pieces of it come, which a thread waits for.

    Raises what the pieces raise; DamagedError; ZstandardError.
    """
    with (
        _running(stdin=subprocess.PIPE) as zstd,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        # Before the thread is waited for: it may write to a program that nobody reads from any more.
        contextlib.ExitStack() as stack,
    ):
        stack.callback(zstd.kill)
        feeding = pool.submit(_feed, zstd, pieces)
        yield from _blocks(zstd)
        feeding.result()
        if zstd.wait():
            raise DamagedError("is damaged or not whole: zstd cannot unpack it")


@contextlib.contextmanager
def unpacking(file: Path) -> Iterator[IO[bytes]]:
    """Give what is in a file as it is unpacked; it ends early when the file is damaged. Raises ZstandardError."""
    with _running(str(file)) as zstd:
        assert zstd.stdout is not None  # noqa: S101 (for the type checker)
        yield zstd.stdout


def _running(*words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    program = shutil.which("zstd")
    if program is None:
        raise ZstandardError("zstd is not installed on the Salt master: apt-get install zstd")
    return subprocess.Popen(
        (program, "--decompress", "--stdout", "--quiet", *words),
        stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, pipesize=_BLOCK,
    )  # fmt: skip


def _feed(zstd: subprocess.Popen[bytes], pieces: Iterable[bytes]) -> None:
    assert zstd.stdin is not None  # noqa: S101 (for the type checker)
    # One that ended early says so by its exit code.
    with contextlib.suppress(BrokenPipeError), zstd.stdin as pipe:
        for piece in pieces:
            pipe.write(piece)


def _blocks(zstd: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert zstd.stdout is not None  # noqa: S101 (for the type checker)
    while block := zstd.stdout.read(_BLOCK):
        yield block
