"""What the operator wrote: settings, cluster.map, profiles and providers, read and checked together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import salt.exceptions
import salt.loader
import salt.template
import yaml

from managed_k8s import names, paths
from managed_k8s.config import cluster_map, consistency, profiles, settings
from managed_k8s.config.cluster_map import Entry, MapError, ServerMap, Tables
from managed_k8s.config.settings import InvalidError, Settings

MAP = "cluster.map"


def folder(opts: Mapping[str, Any] | None = None) -> Path:
    """Return the folder of the settings files."""
    return paths.root(opts) / "pillar" / "clusters"


def clusters(opts: Mapping[str, Any] | None = None) -> list[str]:
    """Return the names of all clusters that have a settings file."""
    return sorted(file.stem for file in folder(opts).glob("*.sls"))


def load(opts: Mapping[str, Any], cluster: str) -> Settings:
    """Return a cluster's settings with defaults. Raises InvalidError."""
    source = f"pillar/clusters/{cluster}.sls"
    if not names.is_cluster(cluster):
        raise InvalidError([f"{cluster!r} cannot be a cluster's name: use lower-case letters, digits and dashes"])
    file = folder(opts) / f"{cluster}.sls"
    if not file.is_file():
        known = ", ".join(clusters(opts)) or "none"
        raise InvalidError([f"{source}: no such file; there are settings of {known}"])
    return settings.complete(_render(opts, file, source), source)


def _render(opts: Mapping[str, Any], file: Path, source: str) -> object:
    loader_opts = {**opts, "file_client": "local", "renderer": "jinja|yaml"}
    try:
        renderers = salt.loader.render(loader_opts, {})
        return salt.template.compile_template(str(file), renderers, "jinja|yaml", [], [])
    # Salt lets through what YAML says of characters that it does not know.
    except (salt.exceptions.SaltException, yaml.YAMLError, UnicodeError) as error:
        raise InvalidError([f"{source}: cannot be read: {error}"]) from None


def server_map(opts: Mapping[str, Any], file: Path | None = None) -> ServerMap:
    """Return the servers of a map, of cluster.map without a file. Raises MapError."""
    file = file or paths.root(opts) / MAP
    if not file.is_file():
        raise MapError(f"{file.name}: no such file in {file.parent}")
    return cluster_map.servers(_map_content(opts, file), file.name)


def _map_content(opts: Mapping[str, Any], file: Path) -> object:
    text = file.read_bytes()
    # Most maps are plain YAML, and renderers take a moment to load.
    if not any(mark in text for mark in (b"{%", b"{{", b"{#", b"#!")):
        return cluster_map.read_yaml(file)
    try:
        return _render(opts, file, file.name)
    except InvalidError as error:
        raise MapError("; ".join(error.problems)) from None


def servers(opts: Mapping[str, Any], cluster: str) -> dict[str, str]:
    """Return the cluster's servers in cluster.map: name -> profile. Raises MapError."""
    return {name: entry.profile for name, entry in server_map(opts).of_cluster(cluster).items()}


def keys(opts: Mapping[str, Any], cluster: str) -> dict[str, dict[str, Any]]:
    """Return what the cluster's servers are made from: name -> keys of its profile, and of the map. Raises MapError."""
    profiles = cluster_map.read_profiles(paths.root(opts) / "cloud.profiles.d").good
    entries = server_map(opts).of_cluster(cluster)
    return {name: cluster_map.merged(profiles.get(one.profile, {}), one.overrides) for name, one in entries.items()}


@dataclasses.dataclass(frozen=True)
class Tree:
    """The profiles and providers in the checkout."""

    profiles: Tables
    providers: Tables

    @classmethod
    def of(cls, opts: Mapping[str, Any]) -> Tree:
        """Read them."""
        root = paths.root(opts)
        profiles = cluster_map.read_profiles(root / "cloud.profiles.d")
        return cls(profiles, cluster_map.read_providers(root / "cloud.providers.d"))


def checked(
    opts: Mapping[str, Any], cluster: str, more: Callable[[Settings], Iterable[str]] = lambda _: ()
) -> Settings:
    """Return the settings after everything was checked. Raises InvalidError with every problem.

    more: what else is wrong with the settings, if they can be read.
    """
    problems: list[str] = []
    found: Settings | None = None
    try:
        found = load(opts, cluster)
        problems += more(found)
    except InvalidError as error:
        problems += error.problems
    tree = Tree.of(opts)
    try:
        written = server_map(opts)
        problems += written.problems(cluster, tree.profiles.good)
        problems += _server_problems(cluster, found, written.of_cluster(cluster), tree)
    except MapError as error:
        problems.append(str(error))
    if found is None or problems:
        raise InvalidError(dict.fromkeys(problems))
    return found


def _server_problems(cluster: str, found: Settings | None, entries: Mapping[str, Entry], tree: Tree) -> list[str]:
    """Return what is wrong with a cluster's servers: each has the keys of its profile and those in the map."""
    problems = consistency.of_counts(cluster, found, entries)
    for name, entry in sorted(entries.items()):
        keys = tree.profiles.good.get(entry.profile)
        if keys is None:
            why = tree.profiles.missing(entry.profile)
            problems.append(f"{MAP}: {name}: profile {entry.profile} is in no file of cloud.profiles.d; {why}")
            continue
        where = f"{MAP}: {name}" if entry.overrides else f"profile {entry.profile}"
        keys = cluster_map.merged(keys, entry.overrides)
        wrong = profiles.problems(where, keys)
        # What has the wrong form cannot be compared with anything.
        problems += wrong or consistency.of_server(cluster, found, name, keys, where)
        problems += consistency.of_provider(found, keys, tree.providers, where)
    return problems
