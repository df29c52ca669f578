"""Where the repository is, and digests of what lies in it."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# What Salt copies to minions to run there.
_EXTENSIONS = ("_utils", "_modules", "_states", "_beacons")
# What minions are made from: a change in it makes them converge.
TREES = ("salt", *_EXTENSIONS)


def root(opts: Mapping[str, Any] | None = None) -> Path:
    """Return the repository that the Salt master runs from."""
    named = (opts or {}).get("managed_k8s", {}).get("checkout")
    return Path(named) if named else Path(__file__).resolve().parent.parent


def digest(content: Any) -> str:
    """Return a SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def tree_digest(checkout: Path) -> str:
    """Return a SHA-256 of everything that minions are made from."""
    return digest(_digests(checkout))


def extensions(checkout: Path) -> dict[str, str]:
    """Return the utils, modules, states and beacons that minions run: file in their folder of extensions -> SHA-256."""
    found = _digests(checkout).items()
    return {name.removeprefix("_"): sha256 for name, sha256 in found if name.startswith("_") and name.endswith(".py")}


def _digests(checkout: Path) -> dict[str, str]:
    """Return the SHA-256 of every file that minions are made from, by its name in the checkout."""
    files = [
        path
        for tree in TREES
        for path in sorted((checkout / tree).rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    ]
    return _digests_of(tuple((str(path.relative_to(checkout)), path.stat().st_mtime_ns) for path in files), checkout)


@functools.lru_cache(maxsize=4)
def _digests_of(stamps: tuple[tuple[str, int], ...], checkout: Path) -> dict[str, str]:
    # Read again only when a file's time changed: every minion's pillar asks.
    return {name: hashlib.sha256((checkout / name).read_bytes()).hexdigest() for name, _ in stamps}
