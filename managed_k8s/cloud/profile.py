"""Cloud profiles: what a server is made from, checked as a whole before anything is created."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import jsonschema
import openstack.exceptions
from openstack.connection import Connection

from managed_k8s.cloud import ownership

_TEXT = {"type": "string", "minLength": 1}
_SUMS = {"type": "object", "additionalProperties": {"type": "string"}}
_PAIR = {
    "oneOf": [
        {"type": "string", "format": "addresses"},
        {"type": "object", "additionalProperties": False, "required": ["port"], "properties": {"port": _TEXT}},
    ]
}
_NETWORK = {
    "type": "object",
    "additionalProperties": False,
    "required": ["network"],
    "properties": {
        "network": _TEXT,
        "fixed_ip": {"type": "string", "format": "ipv4"},
        "security_groups": {"type": "array", "items": _TEXT},
        "allowed_address_pairs": {"type": "array", "items": _PAIR},
    },
}
# docs/driver.md explains each.
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "flavor", "networks"],
    "properties": {
        "cluster": _TEXT,
        "image": _TEXT,
        "flavor": _TEXT,
        "networks": {"type": "array", "items": _NETWORK, "minItems": 1},
        "floating_ip": _TEXT,
        "server_group": _TEXT,
        "availability_zone": _TEXT,
        "boot_volume": {
            "type": "object",
            "additionalProperties": False,
            "required": ["size"],
            "properties": {"size": {"type": "integer", "minimum": 1}, "type": _TEXT},
        },
        "metadata": _SUMS,
        "user_data": _TEXT,
        "config_drive": {"type": "boolean"},
        "ssh_username": _TEXT,
        "ssh_key_name": _TEXT,
        "ssh_key_file": _TEXT,
        "ssh_gateway": _TEXT,
        "ssh_timeout": {"type": "integer", "minimum": 10},
    },
}
_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("ipv4", raises=ValueError)
def _is_address(value: object) -> bool:
    return not isinstance(value, str) or bool(IPv4Address(value))


@_FORMATS.checks("addresses", raises=ValueError)
def _is_network(value: object) -> bool:
    return not isinstance(value, str) or bool(IPv4Network(value))


# Keys of salt-cloud itself and of the provider, which a profile may override.
SALTS = {
    "provider", "driver", "profile", "name", "minion", "grains", "deploy", "extends", "cloud", "keysize", "requires",
    "minion_archive", "minion_archive_sha256", "minion_index_url", "minion_requirements",
}  # fmt: skip


def problems(name: str, profile: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every key of a profile that is unknown or of the wrong kind."""
    own = {key: value for key, value in profile.items() if key not in SALTS}
    validator = jsonschema.Draft202012Validator(SCHEMA, format_checker=_FORMATS)
    found: list[str] = []
    for error in sorted(validator.iter_errors(own), key=lambda error: [str(part) for part in error.path]):
        # Each key that is missing is an error of its own, and each of them tells all.
        found += [text for line in _describe(error) if (text := f"profile {name}: {line}") not in found]
    if "ssh_key_name" in profile and "ssh_key_file" not in profile:
        found.append(f"profile {name}: ssh_key_name: ssh_key_file is missing, the private half to log in with")
    key_file = profile.get("ssh_key_file")
    if isinstance(key_file, str) and not Path(key_file).is_file():
        found.append(f"profile {name}: ssh_key_file: there is no file {key_file}")
    return found


def _describe(error: Any) -> Iterable[str]:
    where = ".".join(str(part) for part in error.path)
    prefix = f"{where}." if where else ""
    if error.validator == "additionalProperties":
        known = sorted({*error.schema["properties"], *(() if where else SALTS)})
        for key in sorted(set(error.instance) - set(known), key=str):
            close = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            yield f"{prefix}{key}: no such key; {hint}"
    elif error.validator == "required":
        yield from (f"{prefix}{key}: is missing" for key in error.validator_value if key not in error.instance)
    elif error.validator == "type":
        yield f"{where}: {error.instance!r} must be of type {error.validator_value}"
    elif error.validator == "oneOf":
        yield f"{where}: {error.instance!r} must be an address, a network, or `port: name of a port`"
    elif error.validator == "format":
        yield f"{where}: {error.instance!r} is no IPv4 address"
    else:
        yield f"{where}: {error.message}"


def missing(conn: Connection, name: str, profile: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every object that a valid profile names and the project does not have.

    Objects named after the profile's own cluster are not asked for: they are made before the server is.
    """
    made = ownership.made_names(profile["cluster"]) if "cluster" in profile else set()
    found = []

    def check(key: str, value: str | None, find: Any, every: Any) -> None:
        if value and value not in made and _absent(find, value):
            names = ", ".join(sorted(item.name or item.id for item in every())) or "none"
            found.append(f"profile {name}: {key}: {value!r} is not in this project; there are {names}")

    compute, network = conn.compute, conn.network
    check("image", profile["image"], conn.image.find_image, conn.image.images)
    check("flavor", profile["flavor"], compute.find_flavor, compute.flavors)
    check("floating_ip", profile.get("floating_ip"), network.find_network, network.networks)
    check("ssh_key_name", profile.get("ssh_key_name"), compute.find_keypair, compute.keypairs)
    check("server_group", profile.get("server_group"), compute.find_server_group, compute.server_groups)
    for index, entry in enumerate(profile["networks"]):
        check(f"networks.{index}.network", entry["network"], network.find_network, network.networks)
        for group in entry.get("security_groups", ()):
            place = f"networks.{index}.security_groups"
            check(place, group, network.find_security_group, network.security_groups)
        for pair in entry.get("allowed_address_pairs", ()):
            if isinstance(pair, dict):
                check(f"networks.{index}.allowed_address_pairs", pair["port"], network.find_port, network.ports)
    volume_type = profile.get("boot_volume", {}).get("type")
    check("boot_volume.type", volume_type, conn.block_storage.find_type, conn.block_storage.types)
    return found


def _absent(find: Any, value: str) -> bool:
    try:
        return find(value) is None
    except openstack.exceptions.DuplicateResource:
        # Said with what to do when it is used.
        return False
