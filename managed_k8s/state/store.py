"""What the Salt master keeps about a cluster: secrets, inventory, attempts; readable for its owner only."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

# Beside the folder of the clusters, for backups outlive them.
BACKUPS = "managed_k8s_backups"


class Store:
    """A cluster's folder below the Salt master's root folder.

    kind: what for; each kind has its own folder.
    """

    def __init__(self, root: str | Path, cluster: str, kind: str = "managed_k8s") -> None:
        self.cluster = cluster
        self.folder = Path(root) / kind / cluster

    @classmethod
    def of(cls, opts: Mapping[str, Any], cluster: str) -> Store:
        """Return a cluster's store under the Salt master with these options."""
        return cls(_root(opts), cluster)

    @classmethod
    def of_backups(cls, opts: Mapping[str, Any], cluster: str) -> Store:
        """Return what stays when a cluster is destroyed: its backups, and the passphrase that opens them."""
        return cls(_root(opts), cluster, BACKUPS)

    def path(self, name: str) -> Path:
        """Return a file's path; its folder is made."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)
        return path

    def read(self, name: str) -> Any:
        """Return the content of a JSON file, or None when there is none."""
        with contextlib.suppress(FileNotFoundError):
            return json.loads((self.folder / name).read_text())
        return None

    def read_text(self, name: str) -> str | None:
        """Return a file's text, or None when there is none."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / name).read_text()
        return None

    def write(self, name: str, content: Any) -> None:
        """Write a JSON file, whole or not at all."""
        self.write_text(name, json.dumps(content, indent=1, sort_keys=True) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a file that only its owner can read, whole or not at all."""
        path = self.path(name)
        # mkstemp makes it 0600 from the start.
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(part).rename(path)

    @contextlib.contextmanager
    def changing(self, name: str, lock: str) -> Iterator[dict[str, Any]]:
        """Give a JSON file's table to be changed, and write it; a change is whole, whoever else makes one.

        lock: file that keeps the others out meanwhile.
        """
        with filelock.FileLock(self.path(lock), mode=0o600):
            content = dict(self.read(name) or {})
            yield content
            self.write(name, content)

    def remove(self, name: str) -> None:
        """Remove a file if it is there."""
        (self.folder / name).unlink(missing_ok=True)


def _root(opts: Mapping[str, Any]) -> str:
    return str(opts.get("managed_k8s", {}).get("state") or opts["root_dir"])
