"""The settings of a cluster: one file, pillar/clusters/<cluster>.sls, checked as a whole before anything changes."""

from __future__ import annotations

import contextlib
import copy
import difflib
import functools
import itertools
import json
import tomllib
from collections.abc import Iterable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema

from managed_k8s.config import cron

HERE = Path(__file__).parent
SCHEMA = HERE / "settings.schema.json"
VERSIONS = HERE / "kubernetes_versions.toml"
KEY = "managed_k8s"

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
    try:
        # Salt's renderer makes ordered tables of its own.
        plain = json.loads(json.dumps(content[KEY], allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError([f"{source}: must be made of texts, numbers, lists and tables only: {error}"]) from None
    settings: Settings = _with_defaults(plain, schema())
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
    return not isinstance(value, str) or cron.is_valid(value)


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


# Prefix lengths: room for the router, DHCP and some servers; for four nodes; what kube-apiserver and
# kube-controller-manager take as most.
_PREFIXES = {
    "openstack.network_cidr": (8, 28),
    "kubernetes.pod_cidr": (8, 22),
    "kubernetes.service_cidr": (12, 24),
}


def _network_problems(settings: Settings, source: str) -> Iterable[str]:
    tables = {path: path.split(".") for path in _PREFIXES}
    networks = {path: IPv4Network(settings[table][key]) for path, (table, key) in tables.items()}
    for path, network in networks.items():
        least, most = _PREFIXES[path]
        if not least <= network.prefixlen <= most:
            size = "small" if network.prefixlen > most else "large"
            yield f"{source}: {path} {network} is too {size}; it must be between /{least} and /{most}"
        if network.is_loopback or network.is_link_local or network.is_multicast or network.is_unspecified:
            yield f"{source}: {path} {network} is reserved; choose a private one, like 10.30.0.0/24"
    for one, other in itertools.combinations(networks, 2):
        if networks[one].overlaps(networks[other]):
            yield f"{source}: {one} {networks[one]} overlaps {other} {networks[other]}; choose separate ranges"
    yield from _virtual_ip_problems(settings["openstack"], networks["openstack.network_cidr"], source)
    for path in ("kubernetes.pod_cidr", "kubernetes.service_cidr"):
        yield from (
            f"{source}: {key} {address} is in {path} {networks[path]}, so servers would not reach it; choose another"
            for key, address in _outside_addresses(settings)
            if address in networks[path]
        )


def _virtual_ip_problems(openstack: Mapping[str, Any], network: IPv4Network, source: str) -> Iterable[str]:
    address = IPv4Address(openstack["virtual_ip"])
    if address not in network or address in (network[0], network[1], network[-1]):
        yield (
            f"{source}: openstack.virtual_ip {address} must be in openstack.network_cidr {network}, "
            f"and not its router's {network[1]}, first or last address"
        )


def _outside_addresses(settings: Settings) -> Iterable[tuple[str, IPv4Address]]:
    """Return what servers must reach outside of the cluster, as far as the settings give addresses."""
    yield from (("openstack.dns_servers", IPv4Address(address)) for address in settings["openstack"]["dns_servers"])
    with contextlib.suppress(ValueError):
        yield "artifacts.url", IPv4Address(urlsplit(settings["artifacts"]["url"]).hostname or "")


def _version_problems(settings: Settings, source: str) -> Iterable[str]:
    version = settings["kubernetes"]["version"]
    if version not in versions():
        yield f"{source}: kubernetes.version {version} cannot be installed; there are {', '.join(versions())}"
