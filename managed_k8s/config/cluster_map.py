"""cluster.map, the cloud profiles and providers as salt-cloud understands them, without changing anything.

All clusters share these files: what is wrong for one of them is kept apart from what the others need.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import salt.utils.dictupdate
import salt.utils.yaml
import yaml

from managed_k8s import names
from managed_k8s.errors import Error

Table = Mapping[str, Any]
Profiles = Mapping[str, Table]


class MapError(Error):
    """A file cannot be read; the message names it and says why."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A server of the map: the profile it is made from, and the keys that the map sets for it alone."""

    profile: str
    overrides: Table


@dataclasses.dataclass(frozen=True)
class Fault:
    """An entry of the map that cannot be used. `name` is the server's, if it has one."""

    profile: str
    name: str | None
    text: str


@dataclasses.dataclass(frozen=True)
class ServerMap:
    """The servers of a map by name, and what is wrong with its entries."""

    servers: Mapping[str, Entry]
    faults: tuple[Fault, ...]

    def of_cluster(self, cluster: str) -> dict[str, Entry]:
        """Return the servers that belong to a cluster by their names."""
        return {name: entry for name, entry in self.servers.items() if _cluster(name) == cluster}

    def alone(self, name: str) -> dict[str, list[Any]]:
        """Return a map of one of the servers, in a map's own form. Raises MapError when it is not in this one."""
        if name not in self.servers:
            raise MapError(f"cluster.map: {name} is not in it")
        entry = self.servers[name]
        return {entry.profile: [{name: dict(entry.overrides)} if entry.overrides else name]}

    def problems(self, cluster: str, profiles: Profiles) -> list[str]:
        """Return what is wrong with the entries of a cluster: those with its names or its profiles."""
        strangers = [
            Fault(entry.profile, name, f"cluster.map: {name}: must be named {cluster}-<gateway|master|worker>-<number>")
            for name, entry in sorted(self.servers.items())
            if profiles.get(entry.profile, {}).get("cluster") == cluster and names.parse(name) is None
        ]
        return [
            fault.text
            for fault in (*self.faults, *strangers)
            if cluster in (_cluster(fault.name), profiles.get(fault.profile, {}).get("cluster"))
        ]


def _cluster(name: str | None) -> str | None:
    node = names.parse(name) if name else None
    return node.cluster if node else None


def servers(content: object, source: str) -> ServerMap:
    """Return the servers of a map.

    content: what the file holds, rendered. source: the file's name, for messages.
    Raises MapError when the content is no table.
    """
    found: dict[str, Entry] = {}
    faults = []
    for profile, entries in _checked_table(content, source).items():
        for item in entries if isinstance(entries, list) else [entries]:
            for name, overrides in _named(item):
                text = _fault(name, overrides, found, profile)
                if text:
                    faults.append(Fault(profile, name if isinstance(name, str) else None, f"{source}: {text}"))
                else:
                    found[str(name)] = Entry(profile, overrides or {})
    return ServerMap(found, tuple(faults))


def _named(item: object) -> Iterable[tuple[object, Any]]:
    """Return (name, overrides) of an entry: `name`, or `{name: overrides}`."""
    return item.items() if isinstance(item, dict) else [(item, None)]


def _fault(name: object, overrides: object, found: Mapping[str, Entry], profile: str) -> str | None:
    if not isinstance(name, str) or not name:
        return f"{profile}: {name!r} is no server's name"
    if overrides is not None and not isinstance(overrides, dict):
        return f"{profile}: {name}: {overrides!r} must be a table of keys for this server alone"
    if name in found:
        return f"{name} is there twice, under {found[name].profile} and {profile}"
    return None


@dataclasses.dataclass(frozen=True)
class Tables:
    """Tables by name from a folder of `*.conf` files, and why others of them, or whole files, cannot be used."""

    good: dict[str, dict[str, Any]]
    broken: dict[str, str]

    def missing(self, name: str) -> str:
        """Return why there is no table of this name."""
        if name in self.broken:
            return self.broken[name]
        files = [text for key, text in self.broken.items() if key.endswith(".conf")]
        return "; ".join([f"there are {', '.join(sorted(self.good)) or 'none'}", *files])


def read_profiles(folder: Path) -> Tables:
    """Return the profiles in a folder, `extends` resolved."""
    return _tables(folder, _extended)


def read_providers(folder: Path) -> Tables:
    """Return the providers in a folder."""
    return _tables(folder, lambda name, tables: tables[name])


def _tables(folder: Path, resolve: Callable[[str, dict[str, dict[str, Any]]], dict[str, Any]]) -> Tables:
    tables: dict[str, dict[str, Any]] = {}
    broken: dict[str, str] = {}
    for file in sorted(folder.glob("*.conf")):
        try:
            content = _checked_table(read_yaml(file), file.name)
        except MapError as error:
            broken[file.name] = str(error)
            continue
        for name, table in content.items():
            if isinstance(table, dict):
                tables[name] = table
            else:
                broken[name] = f"{file.name}: {name} must be a table of keys, not {table!r}"
    good = {}
    for name in tables:
        try:
            good[name] = resolve(name, tables)
        except MapError as error:
            broken[name] = str(error)
    return Tables(good, broken)


def _extended(name: str, profiles: dict[str, dict[str, Any]], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    profile = profiles[name]
    if "extends" not in profile:
        return profile
    base = profile["extends"]
    if not isinstance(base, str) or base not in profiles or base in (*seen, name):
        raise MapError(f"profile {name}: extends {base!r}, which is no profile or leads back to {name}")
    own = {key: value for key, value in profile.items() if key != "extends"}
    return merged(_extended(base, profiles, (*seen, name)), own)


def merged(base: Table, own: Table) -> dict[str, Any]:
    """Return tables one over the other as salt-cloud lays them: tables in them are merged, lists replaced."""
    result: dict[str, Any] = salt.utils.dictupdate.merge_recurse(dict(base), dict(own))
    return result


def read_yaml(file: Path) -> object:
    """Return what a YAML file holds. Raises MapError."""
    try:
        # Salt's own loader, which refuses what is there twice.
        return salt.utils.yaml.safe_load(file.read_text())
    except FileNotFoundError:
        raise MapError(f"{file.name}: no such file in {file.parent}") from None
    except (yaml.YAMLError, UnicodeError, ValueError) as error:
        raise MapError(f"{file.name}: is no YAML: {error}") from None


def _checked_table(content: object, source: str) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise MapError(f"{source}: must be a table at its top, not {type(content).__name__}")
    for key in content:
        if not isinstance(key, str):
            raise MapError(f"{source}: {key!r} must be a text; put it in quotes")
    return content
