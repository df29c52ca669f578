"""Where a minion's files arrive over Salt's channel: only while one is asked for, readable for the owner only."""

from __future__ import annotations

import concurrent.futures
import contextlib
import shutil
import tarfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from managed_k8s import names
from managed_k8s.errors import Error

# Below a minion's folder of files that it sent; _modules/managed_k8s_backup.py sends there.
FOLDER = "managed-k8s-backup"
# The database is packed by zstd and comes in pieces, each so long but the last: a folder of files, numbers their names.
CONFIGURATION, DATABASE, PIECE = "configuration.tar", "etcd.db", 2 << 20
# What the first of them holds.
CONTENT = ("kubernetes", "managed-k8s", "manifest.json")
_LOOK = 0.02


class LandingError(Error):
    """What arrived is not what was sent."""


def _sent(opts: Mapping[str, Any], minion: str) -> Path:
    """Return where the Salt master puts what a minion sends; the channel authenticated its id."""
    return Path(opts["cachedir"]) / "minions" / minion / "files"


class Landing:
    """A place for the files of one backup.

    ticket: a name that was not used before; the minion is told it.
    """

    def __init__(self, opts: Mapping[str, Any], minion: str, ticket: str) -> None:
        self.folder = _sent(opts, minion) / FOLDER / ticket

    def __enter__(self) -> Landing:
        (self.folder / DATABASE).mkdir(parents=True)
        # The Salt master makes files readable for all who get there.
        for folder in (self.folder / DATABASE, self.folder, self.folder.parent, self.folder.parent.parent):
            folder.chmod(0o700)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # With what a backup that was killed had asked for, and what came of that until this one began.
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    @property
    def configuration(self) -> Path:
        """The file that comes last; it is whole when the sending ended well."""
        return self.folder / CONFIGURATION

    def pieces(self, sending: concurrent.futures.Future[Any]) -> Iterator[bytes]:
        """Yield the packed database as it comes, until the sending ended. Raises LandingError, and what ended it."""
        number = 0
        while True:
            # Asked first: what came before the end is seen after it.
            ended = sending.done()
            file = self.folder / DATABASE / f"{number:06d}"
            size = _size(file)
            # One that is shorter is the last one, or on its way.
            if size == PIECE or (size and ended):
                yield _content(file)
                file.unlink()
                number += 1
            elif not ended:
                time.sleep(_LOOK)
            else:
                sending.result()
                return


def _size(file: Path) -> int:
    """Return a file's size in bytes; 0 while it is not there."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def _content(file: Path) -> bytes:
    with file.open("rb") as source:
        content = source.read(PIECE + 1)
    if len(content) > PIECE:
        raise LandingError(f"has a piece that is longer than {PIECE} bytes")
    return content


def unpack(archive: Path, target: Path) -> None:
    """Write the configuration's files into a folder; nothing in it leads out. Raises tarfile.TarError, OSError."""
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")


def clear(opts: Mapping[str, Any], cluster: str) -> list[str]:
    """Remove everything that a cluster's minions sent and nobody takes; to be called while no backup is under way.

    Return the minions it came from.
    """
    came = []
    for folder in (Path(opts["cachedir"]) / "minions").glob(f"{cluster}-*/files"):
        node = names.parse(folder.parent.name)
        if node is None or node.cluster != cluster:
            continue
        with contextlib.suppress(OSError):
            if any(path.is_file() for path in folder.rglob("*")):
                came.append(node.id)
            shutil.rmtree(folder)
    return came
