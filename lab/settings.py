"""The lab's settings, validated as a whole.

A user changes them in `managed-k8s/lab.toml` of their configuration folder.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from lab.artifacts import matrix

KUBERNETES_VERSIONS = matrix.versions()


class SettingsError(ValueError):
    """Wrong settings; the message lists every problem."""


@dataclasses.dataclass(frozen=True)
class Addresses:
    """The lab's IPv4 ranges, each in CIDR notation.

    api_network: between the host (first address) and the OpenStack endpoints (tenth address).
    underlay_network: between the hypervisors, inside the cloud's machine.
    external_network: floating IPs; its gateway is the first address.
    """

    api_network: str = "10.77.0.0/24"
    underlay_network: str = "10.77.1.0/24"
    external_network: str = "10.88.0.0/24"

    def problems(self) -> list[str]:
        """Return a sentence for every range that is no private /16../28 network or overlaps another."""
        problems: list[str] = []
        networks: dict[str, IPv4Network] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            try:
                network = IPv4Network(value)
            except ValueError as error:
                problems.append(
                    f"addresses.{field.name}: {value!r} is not an IPv4 network ({error}); write it like {field.default}"
                )
                continue
            if not network.is_private or not 16 <= network.prefixlen <= 28:
                problems.append(f"addresses.{field.name}: {value} must be a private network between /16 and /28")
            problems += [
                f"addresses.{field.name}: {value} overlaps {other} ({known}); choose a range of its own"
                for other, known in networks.items()
                if network.overlaps(known)
            ]
            networks[field.name] = network
        return problems

    @property
    def host(self) -> IPv4Address:
        """The host's own address on the way to the endpoints."""
        return IPv4Network(self.api_network)[1]

    @property
    def api(self) -> IPv4Address:
        """Where the OpenStack endpoints, the mirror and the lab's DNS listen."""
        return IPv4Network(self.api_network)[10]

    @property
    def underlay(self) -> IPv4Address:
        """Where the cloud's own services listen to each other."""
        return IPv4Network(self.underlay_network)[1]

    def hypervisor(self, number: int) -> IPv4Address:
        """The underlay address of hypervisor 1, 2 or 3."""
        return IPv4Network(self.underlay_network)[10 + number]

    @property
    def external_gateway(self) -> IPv4Address:
        """The gateway of the external network."""
        return IPv4Network(self.external_network)[1]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that can be set.

    addresses: the ranges above.
    kubernetes: versions whose artifacts `lab up` builds, of KUBERNETES_VERSIONS.
    state, cache: folders; by default below the user's state and cache folders.
    """

    addresses: Addresses
    kubernetes: tuple[str, ...]
    state: Path
    cache: Path

    @property
    def auth_url(self) -> str:
        """Where clients log in."""
        return f"https://{self.addresses.api}:5000/v3"

    @property
    def mirror_url(self) -> str:
        """Where servers find the mirror."""
        return f"http://{self.addresses.api}"


def _folder(variable: str, default: str) -> Path:
    # XDG base directory specification: a relative value is to be ignored.
    value = os.environ.get(variable, "")
    return Path(value) if value.startswith("/") else Path.home() / default


def settings_file() -> Path:
    """Return where the user's settings are read from."""
    return _folder("XDG_CONFIG_HOME", ".config") / "managed-k8s" / "lab.toml"


def load(path: Path | None = None) -> Settings:
    """Read the user's settings; without a file, the defaults hold.

    path: a TOML file with the keys `kubernetes` (list of versions), `state`, `cache` (absolute paths)
        and the table `addresses`.
    Raises SettingsError, which lists everything that is wrong.
    """
    path = path or settings_file()
    try:
        given = tomllib.loads(path.read_text())
    except FileNotFoundError:
        given = {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not TOML: {error}") from error
    return parse(given, str(path))


def parse(given: dict[str, Any], source: str) -> Settings:
    """Turn the keys of a settings file into Settings, or raise SettingsError.

    source: named at the top of the message.
    """
    given = dict(given)
    problems: list[str] = []
    ranges = given.pop("addresses", {})
    if not isinstance(ranges, dict):
        problems.append(f"addresses: {ranges!r} is not a table of ranges; write [addresses]")
        ranges = {}
    known = {field.name for field in dataclasses.fields(Addresses)}
    problems += [
        f"addresses.{name}: no such setting; there are {', '.join(sorted(known))}" for name in ranges.keys() - known
    ]
    addresses = Addresses(**{name: str(value) for name, value in ranges.items() if name in known})
    problems += addresses.problems()
    kubernetes = given.pop("kubernetes", [KUBERNETES_VERSIONS[0]])
    if not isinstance(kubernetes, list) or not kubernetes or not set(map(str, kubernetes)) <= set(KUBERNETES_VERSIONS):
        problems.append(f"kubernetes: {kubernetes!r} must be a list of some of {', '.join(KUBERNETES_VERSIONS)}")
        kubernetes = []
    folders = {
        "state": _folder("XDG_STATE_HOME", ".local/state") / "managed-k8s" / "lab",
        "cache": _folder("XDG_CACHE_HOME", ".cache") / "managed-k8s" / "lab",
    }
    for name in folders:
        value = given.pop(name, str(folders[name]))
        if not isinstance(value, str) or not re.fullmatch(r"/[^\s:,]*", value):
            problems.append(f"{name}: {value!r} must be an absolute path without spaces, colons or commas")
        else:
            folders[name] = Path(value)
    problems += [f"{name}: no such setting; there are addresses, cache, kubernetes, state" for name in given]
    if problems:
        raise SettingsError("\n".join([f"{source}:", *problems]))
    return Settings(addresses=addresses, kubernetes=tuple(map(str, kubernetes)), **folders)
