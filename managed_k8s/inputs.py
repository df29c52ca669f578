"""What the operator wrote: settings, cluster.map and profiles, read and checked together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import salt.exceptions
import salt.loader
import salt.template
import yaml

from managed_k8s import checkout, cluster_map, naming, settings
from managed_k8s.settings import InvalidError, Settings


def folder(opts: Mapping[str, Any] | None = None) -> Path:
    """Return the folder of the settings files."""
    return checkout.root(opts) / "pillar" / "clusters"


def clusters(opts: Mapping[str, Any] | None = None) -> list[str]:
    """Return the names of all clusters that have a settings file."""
    return sorted(file.stem for file in folder(opts).glob("*.sls"))


def load(opts: Mapping[str, Any], cluster: str) -> Settings:
    """Return a cluster's settings with defaults. Raises InvalidError."""
    source = f"pillar/clusters/{cluster}.sls"
    if not naming.is_cluster(cluster):
        raise InvalidError([f"{cluster!r} cannot be a cluster's name: use lower-case letters, digits and dashes"])
    file = folder(opts) / f"{cluster}.sls"
    if not file.is_file():
        names = ", ".join(clusters(opts)) or "none"
        raise InvalidError([f"{source}: no such file; there are settings of {names}"])
    return settings.complete(_render(opts, file, source), source)


def _render(opts: Mapping[str, Any], file: Path, source: str) -> object:
    loader_opts = {**opts, "file_client": "local", "renderer": "jinja|yaml"}
    try:
        renderers = salt.loader.render(loader_opts, {})
        return salt.template.compile_template(str(file), renderers, "jinja|yaml", [], [])
    # Salt lets through what YAML says of characters that it does not know.
    except (salt.exceptions.SaltException, yaml.YAMLError, UnicodeError) as error:
        raise InvalidError([f"{source}: cannot be read: {error}"]) from None


def servers(opts: Mapping[str, Any], cluster: str) -> dict[str, str]:
    """Return the cluster's servers in cluster.map: name -> profile. Raises cluster_map.MapError."""
    return cluster_map.of_cluster(cluster_map.read(checkout.root(opts) / "cluster.map"), cluster)


def checked(opts: Mapping[str, Any], cluster: str) -> Settings:
    """Return the settings after everything was checked. Raises InvalidError with every problem."""
    problems: list[str] = []
    found: Settings = {}
    try:
        found = load(opts, cluster)
    except InvalidError as error:
        problems += error.problems
    try:
        root = checkout.root(opts)
        every = cluster_map.read(root / "cluster.map")
        profiles = cluster_map.read_profiles(root / "cloud.profiles.d")
        problems += [
            f"cluster.map: {name}: must be named <cluster>-<gateway|master|worker>-<number>, like demo-master-1"
            for name in cluster_map.strangers(every)
        ]
        names = cluster_map.of_cluster(every, cluster)
        problems += settings.map_problems(cluster, found, names, profiles)
        problems += _profile_problems(names, profiles)
    except cluster_map.MapError as error:
        problems.append(str(error))
    if problems:
        raise InvalidError(problems)
    return found


def _profile_problems(names: Mapping[str, str], profiles: cluster_map.Profiles) -> list[str]:
    from managed_k8s.cloud import profile

    used = sorted({name for name in names.values() if name in profiles})
    return [problem for name in used for problem in profile.problems(name, profiles[name])]
