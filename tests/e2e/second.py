"""The inputs of a second cluster, written as an operator would: demo's, with another name and fewer servers."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

NAME = "small"
# Three masters, for it is their joins that must not be interrupted for ever.
SERVERS = {"gateway": 1, "master": 3, "worker": 1}


def server_names() -> list[str]:
    """Return the names of its servers."""
    return [f"{NAME}-{role}-{number}" for role, count in SERVERS.items() for number in range(1, count + 1)]


def add(root: Path) -> None:
    """Add the cluster to a checkout."""
    settings, profiles = root / "pillar" / "clusters", root / "cloud.profiles.d"
    (settings / f"{NAME}.sls").write_text(_renamed(settings / "demo.sls"))
    (profiles / f"{NAME}.conf").write_text(_renamed(profiles / "demo.conf"))
    servers = {f"{NAME}-{role}": [n for n in server_names() if f"-{role}-" in n] for role in SERVERS}
    with (root / "cluster.map").open("a") as file:
        file.write(yaml.safe_dump(servers))


def _renamed(file: Path) -> str:
    return re.sub(r"\bdemo\b", NAME, file.read_text())
