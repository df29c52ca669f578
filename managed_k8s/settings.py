"""The settings of a cluster: one file, pillar/clusters/<cluster>.sls, checked as a whole before anything changes."""

from __future__ import annotations

import copy
import difflib
import functools
import json
import tomllib
from collections.abc import Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import jsonschema

from managed_k8s import naming
from managed_k8s.backup import schedule
from managed_k8s.cluster_map import Profiles

HERE = Path(__file__).parent
SCHEMA = HERE / "settings.schema.json"
VERSIONS = HERE / "versions.toml"
KEY = "managed_k8s"
MASTERS_ALLOWED = (1, 3, 5)

Settings = dict[str, Any]


class InvalidError(ValueError):
    """Wrong input; the message lists every problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(f"- {problem}" for problem in self.problems))


@functools.cache
def schema() -> dict[str, Any]:
    """Return the JSON schema."""
    content: dict[str, Any] = json.loads(SCHEMA.read_text())
    return content


@functools.cache
def versions() -> dict[str, dict[str, str]]:
    """Return what goes with each Kubernetes version that can be installed."""
    return tomllib.loads(VERSIONS.read_text())


def complete(content: object, source: str) -> Settings:
    """Return the settings in a file's content, with the defaults of all that is not set.

    content: what the file holds, rendered: `{"managed_k8s": {...}}`.
    source: the file's name, for messages.
    Raises InvalidError with every problem that the settings have in themselves.
    """
    if not isinstance(content, dict) or set(content) != {KEY} or not isinstance(content[KEY], dict):
        raise InvalidError([f"{source}: must hold one key, {KEY}:, with the settings below it"])
    # Salt's renderer makes ordered tables of its own.
    settings: Settings = _with_defaults(json.loads(json.dumps(content[KEY])), schema())
    problems = [*_schema_problems(settings, source)]
    problems = problems or [*_network_problems(settings, source), *_version_problems(settings, source)]
    if problems:
        raise InvalidError(problems)
    return settings


def _with_defaults(value: Any, rules: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        for name, rule in rules.get("properties", {}).items():
            if name not in value and "default" in rule:
                value[name] = copy.deepcopy(rule["default"])
            if name in value:
                value[name] = _with_defaults(value[name], rule)
    return value


_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("ipv4", raises=AddressValueError)
def _is_address(value: object) -> bool:
    return not isinstance(value, str) or bool(IPv4Address(value))


@_FORMATS.checks("ipv4network", raises=ValueError)
def _is_network(value: object) -> bool:
    return not isinstance(value, str) or bool(IPv4Network(value))


@_FORMATS.checks("cron")
def _is_schedule(value: object) -> bool:
    return not isinstance(value, str) or schedule.is_valid(value)


_FORMAT_WORDS = {
    "cron": "is no schedule in cron form; write it like */15 * * * *, in UTC",
    "ipv4": "is no IPv4 address; write it like 10.30.0.5",
    "ipv4network": "is no IPv4 network; write it like 10.30.0.0/24, without host bits",
}


def _schema_problems(settings: Settings, source: str) -> Iterable[str]:
    validator = jsonschema.Draft202012Validator(schema(), format_checker=_FORMATS)
    for error in sorted(validator.iter_errors(settings), key=lambda error: [str(part) for part in error.path]):
        where = ".".join(str(part) for part in error.path)
        yield from (f"{source}: {line}" for line in _describe(error, where))


def _describe(error: Any, where: str) -> Iterable[str]:
    prefix = f"{where}." if where else ""
    # Of a failed check jsonschema always sets these; its types say that they may be unset.
    schema: Any = error.schema
    value: Any = error.validator_value
    instance: Any = error.instance
    match error.validator:
        case "additionalProperties":
            known = list(schema["properties"])
            for name in sorted(set(instance) - set(known), key=str):
                close = difflib.get_close_matches(str(name), known, 1)
                hint = f"did you mean {close[0]}? " if close else ""
                yield f"{prefix}{name}: no such setting; {hint}There are {', '.join(known)}"
        case "required":
            for name in value:
                if name not in instance:
                    rule = schema["properties"][name]
                    yield f"{prefix}{name}: is missing; {rule.get('description', 'a table of settings')}"
        case "format":
            yield f"{where}: {instance!r} {_FORMAT_WORDS[value]}"
        case "enum":
            yield f"{where}: {instance!r} is not one of {', '.join(map(str, value))}"
        case "type":
            kinds = value
            allowed = kinds if isinstance(kinds, str) else " or ".join(kinds)
            yield f"{where or KEY}: {instance!r} must be of type {allowed}"
        case _:
            yield f"{where}: {error.message}"


def _network_problems(settings: Settings, source: str) -> Iterable[str]:
    openstack, kubernetes = settings["openstack"], settings["kubernetes"]
    names = {
        "openstack.network_cidr": IPv4Network(openstack["network_cidr"]),
        "kubernetes.pod_cidr": IPv4Network(kubernetes["pod_cidr"]),
        "kubernetes.service_cidr": IPv4Network(kubernetes["service_cidr"]),
    }
    pairs = [(a, b) for i, a in enumerate(names) for b in list(names)[i + 1 :]]
    for one, other in pairs:
        if names[one].overlaps(names[other]):
            yield f"{source}: {one} {names[one]} overlaps {other} {names[other]}; choose ranges that do not overlap"
    network, address = names["openstack.network_cidr"], IPv4Address(openstack["virtual_ip"])
    if network.prefixlen > 28:
        yield f"{source}: openstack.network_cidr {network} is too small; it must be a /28 or larger"
    elif address not in network or address in (network[0], network[1], network[-1]):
        yield (
            f"{source}: openstack.virtual_ip {address} must be in openstack.network_cidr {network}, "
            f"and not its router's {network[1]}, first or last address"
        )
    if names["kubernetes.pod_cidr"].prefixlen > 22:
        yield f"{source}: kubernetes.pod_cidr {names['kubernetes.pod_cidr']} is too small; it must be a /22 or larger"


def _version_problems(settings: Settings, source: str) -> Iterable[str]:
    version = settings["kubernetes"]["version"]
    if version not in versions():
        yield f"{source}: kubernetes.version {version} cannot be installed; there are {', '.join(versions())}"


def map_problems(cluster: str, settings: Settings, names: Mapping[str, str], profiles: Profiles) -> list[str]:
    """Return a sentence for every contradiction between a cluster's servers, their profiles and the settings.

    names: server name -> profile name, all servers that the map gives to this cluster.
    profiles: profile name -> its keys.
    """
    problems = []
    nodes = {name: naming.parse(name) for name in names}
    for role, allowed in ((naming.GATEWAY, None), (naming.MASTER, MASTERS_ALLOWED)):
        count = sum(1 for node in nodes.values() if node and node.role == role)
        if allowed and count not in allowed:
            problems.append(
                f"cluster.map: {cluster} has {count} masters; etcd needs 1, 3 or 5 for a majority: "
                f"name them {cluster}-master-1, {cluster}-master-2, ..."
            )
        elif not allowed and not count:
            problems.append(f"cluster.map: {cluster} has no gateway; add {cluster}-gateway-1 (two for availability)")
    for name, profile in sorted(names.items()):
        if profile not in profiles:
            problems.append(
                f"cluster.map: {name}: profile {profile} is in no file of cloud.profiles.d; there are "
                f"{', '.join(sorted(profiles)) or 'none'}"
            )
    for profile in sorted({profile for profile in names.values() if profile in profiles}):
        problems += _profile_problems(cluster, settings, profile, profiles[profile])
    return problems


def _profile_problems(cluster: str, settings: Settings, name: str, profile: Mapping[str, Any]) -> Iterable[str]:
    if profile.get("cluster") != cluster:
        yield f"profile {name}: cluster is {profile.get('cluster')!r}; the servers it is used for are of {cluster}"
    networks = profile.get("networks") or []
    attached = [entry.get("network") for entry in networks if isinstance(entry, dict)]
    if attached[:1] != [cluster]:
        yield f"profile {name}: networks must begin with the cluster's own, `- network: {cluster}`"
