"""Where the repository is, and digests of what lies in it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

# What minions are made from: a change in it makes them converge.
TREES = ("salt", "_modules", "_states", "_beacons")
# What of it Salt copies to minions to run there.
_EXTENSIONS = ("modules", "states", "beacons")


def root(opts: Mapping[str, Any] | None = None) -> Path:
    """Return the repository that the Salt master runs from."""
    named = (opts or {}).get("managed_k8s", {}).get("checkout")
    return Path(named) if named else Path(__file__).resolve().parent.parent


def digest(content: Any) -> str:
    """Return a SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def tree_digest(checkout: Path) -> str:
    """Return a SHA-256 of everything that minions are made from."""
    return _digest_of(_stamps(checkout, TREES), checkout)


def extensions(checkout: Path) -> dict[str, str]:
    """Return the modules, states and beacons that minions run: file in their folder of extensions -> SHA-256."""
    return _extensions(_stamps(checkout, [f"_{kind}" for kind in _EXTENSIONS]), checkout)


def _stamps(checkout: Path, trees: Iterable[str]) -> tuple[tuple[str, int], ...]:
    files = [
        path
        for tree in trees
        for path in sorted((checkout / tree).rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    ]
    return tuple((str(path.relative_to(checkout)), path.stat().st_mtime_ns) for path in files)


@functools.lru_cache(maxsize=4)
def _extensions(stamps: tuple[tuple[str, int], ...], checkout: Path) -> dict[str, str]:
    return {
        name.removeprefix("_"): hashlib.sha256((checkout / name).read_bytes()).hexdigest()
        for name, _ in stamps
        if name.endswith(".py")
    }


@functools.lru_cache(maxsize=4)
def _digest_of(stamps: tuple[tuple[str, int], ...], checkout: Path) -> str:
    # Read again only when a file's time changed: every minion's pillar asks.
    digest = hashlib.sha256()
    for name, _ in stamps:
        digest.update(f"{name}\0".encode())
        digest.update((checkout / name).read_bytes())
    return digest.hexdigest()
