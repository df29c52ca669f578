"""Reading cluster.map and the cloud profiles, as salt-cloud does, without changing anything."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from managed_k8s import naming

Profiles = Mapping[str, Mapping[str, Any]]


class MapError(ValueError):
    """The map or a profile cannot be read; the message names the file and the entry."""


def read(file: Path) -> dict[str, str]:
    """Return the servers of a map: name -> profile.

    Raises MapError.
    """
    servers: dict[str, str] = {}
    for profile, entries in _table(file).items():
        for entry in entries if isinstance(entries, list) else [entries]:
            for name in _names(entry, file, profile):
                if name in servers:
                    raise MapError(f"{file.name}: {name} is there twice, under {servers[name]} and {profile}")
                servers[name] = profile
    return servers


def entry(file: Path, name: str) -> dict[str, list[Any]]:
    """Return the part of a map that is about one server, in the map's own form.

    Raises MapError, also when the server is not in it.
    """
    for profile, entries in _table(file).items():
        for each in entries if isinstance(entries, list) else [entries]:
            if name in _names(each, file, profile):
                return {profile: [each if isinstance(each, str) else {name: each[name]}]}
    raise MapError(f"{file.name}: {name} is not in it")


def _names(entry: object, file: Path, profile: str) -> Iterable[str]:
    """Return the names in one entry: `name`, or `{name: overrides}`."""
    if isinstance(entry, str):
        return [entry]
    if isinstance(entry, dict) and all(isinstance(name, str) for name in entry):
        return list(entry)
    raise MapError(f"{file.name}: {profile}: {entry!r} is no server's name")


def of_cluster(servers: Mapping[str, str], cluster: str) -> dict[str, str]:
    """Return the servers that belong to a cluster by their names."""
    return {name: profile for name, profile in servers.items() if (naming.parse(name) or _NONE).cluster == cluster}


_NONE = naming.Node("", "", 0)


def strangers(servers: Mapping[str, str]) -> list[str]:
    """Return the names that are no cluster node's."""
    return sorted(name for name in servers if naming.parse(name) is None)


def read_profiles(folder: Path) -> dict[str, dict[str, Any]]:
    """Return all profiles in a folder of `*.conf` files: name -> keys, `extends` resolved.

    Raises MapError.
    """
    profiles: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.glob("*.conf")):
        for name, profile in _table(file).items():
            if not isinstance(profile, dict):
                raise MapError(f"{file.name}: {name} must be a table of keys, not {profile!r}")
            profiles[name] = profile
    return {name: _extended(name, profiles, ()) for name in profiles}


def _extended(name: str, profiles: Mapping[str, dict[str, Any]], seen: tuple[str, ...]) -> dict[str, Any]:
    profile = profiles[name]
    base = profile.get("extends")
    if base is None:
        return profile
    if base not in profiles or base in seen:
        raise MapError(f"profile {name}: extends {base!r}, which is no profile or leads back to {name}")
    own = {key: value for key, value in profile.items() if key != "extends"}
    return {**_extended(base, profiles, (*seen, name)), **own}


def _table(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise MapError(f"{file.name}: no such file in {file.parent}") from None
    except yaml.YAMLError as error:
        raise MapError(f"{file.name}: is no YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise MapError(f"{file.name}: must be a table at its top, not {type(content).__name__}")
    return content
