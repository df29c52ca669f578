"""The lab's settings: address ranges, validated as a whole."""

from __future__ import annotations

import dataclasses
import ipaddress


class SettingsError(ValueError):
    """Wrong settings; the message lists every problem."""


@dataclasses.dataclass(frozen=True)
class Addresses:
    """The lab's IPv4 ranges, each in CIDR notation.

    api_network: between the host and the OpenStack endpoints.
    underlay_network: between the hypervisors.
    external_network: floating IPs.
    """

    api_network: str = "10.77.0.0/24"
    underlay_network: str = "10.77.1.0/24"
    external_network: str = "10.88.0.0/24"

    def validate(self) -> None:
        """Raise SettingsError naming every range that is no private /16../28 network or overlaps another."""
        problems, networks = [], {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            try:
                network = ipaddress.IPv4Network(value)
            except ValueError as error:
                problems.append(f"{field.name}: {value!r} is not an IPv4 network ({error}); write it like {field.default}")
                continue
            if not network.is_private or not 16 <= network.prefixlen <= 28:
                problems.append(f"{field.name}: {value} must be a private network between /16 and /28")
            problems += [
                f"{field.name}: {value} overlaps {other} ({known}); choose a range of its own"
                for other, known in networks.items()
                if network.overlaps(known)
            ]
            networks[field.name] = network
        if problems:
            raise SettingsError("\n".join(problems))
