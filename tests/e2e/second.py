"""The inputs of a second cluster, written as an operator would: demo's, with another name and fewer servers."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

NAME = "small"
# Beside demo's seven, few enough for a machine of two cores.
SERVERS = {"gateway": 1, "master": 1, "worker": 1}


def settings_file(root: Path) -> Path:
    """Return where a checkout has its settings."""
    return root / "pillar" / "clusters" / f"{NAME}.sls"


def server_names(masters: int = SERVERS["master"]) -> list[str]:
    """Return the names of its servers."""
    counts = SERVERS | {"master": masters}
    return [f"{NAME}-{role}-{number}" for role, count in counts.items() for number in range(1, count + 1)]


def add(root: Path) -> None:
    """Add the cluster to a checkout."""
    settings, profiles = settings_file(root), root / "cloud.profiles.d"
    settings.write_text(_renamed(settings.with_name("demo.sls")))
    (profiles / f"{NAME}.conf").write_text(_renamed(profiles / "demo.conf"))
    have(root, SERVERS["master"])


def have(root: Path, masters: int) -> None:
    """Have as many masters in the map."""
    file = root / "cluster.map"
    of_others = {profile: names for profile, names in yaml.safe_load(file.read_text()).items() if NAME not in profile}
    own = {f"{NAME}-{role}": [n for n in server_names(masters) if f"-{role}-" in n] for role in SERVERS}
    file.write_text(yaml.safe_dump(of_others | own))


def _renamed(file: Path) -> str:
    return re.sub(r"\bdemo\b", NAME, file.read_text())
