"""What a profile names must be in the project, and of use: looked up before anything is created."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import openstack.exceptions
from openstack.connection import Connection

from managed_k8s import names


def missing(conn: Connection, where: str, profile: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every object that a valid profile names and that the project does not have, or cannot use.

    where: the beginning of each sentence, like `profile demo-worker`. Objects named after the profile's own cluster are
    not asked for: they are made before the server is.
    """
    return [f"{where}: {problem}" for problem in _Lookup(conn, profile).problems()]


class _Lookup:
    """Looks up what one profile names."""

    def __init__(self, conn: Connection, profile: Mapping[str, Any]) -> None:
        self.conn, self.profile = conn, profile
        self.made = names.made_names(profile["cluster"]) if "cluster" in profile else set[str]()
        self.found: list[str] = []

    def problems(self) -> list[str]:
        profile, compute, network = self.profile, self.conn.compute, self.conn.network
        image = self.one("image", profile["image"], self.conn.image.find_image, self.conn.image.images)
        flavor = self.one("flavor", profile["flavor"], compute.find_flavor, compute.flavors)
        self.image(image, flavor)
        self.one("floating_ip", profile.get("floating_ip"), network.find_network, network.networks)
        self.one("ssh_key_name", profile.get("ssh_key_name"), compute.find_keypair, compute.keypairs)
        self.one("server_group", profile.get("server_group"), compute.find_server_group, compute.server_groups)
        self.zone(profile.get("availability_zone"))
        offered = {extension.alias for extension in network.extensions()}
        self.extensions(offered)
        for index, entry in enumerate(profile["networks"]):
            self.port(f"networks.{index}", entry, offered)
        volume_type = profile.get("boot_volume", {}).get("type")
        if volume_type:
            storage = self.conn.block_storage
            self.one("boot_volume.type", volume_type, storage.find_type, storage.types)
        return self.found

    def one(self, key: str, value: str | None, find: Any, every: Any) -> Any:
        """Return the object that a key names; note when there is none, or more than one."""
        if not value or value in self.made:
            return None
        try:
            item = find(value)
        except openstack.exceptions.DuplicateResource:
            ids = ", ".join(sorted(item.id for item in every() if item.name == value))
            self.found.append(f"{key}: there are several named {value!r}: give the id instead, one of {ids}")
            return None
        if item is None:
            names = ", ".join(sorted(item.name or item.id for item in every())) or "none"
            self.found.append(f"{key}: {value!r} is not in this project; there are {names}")
        return item

    def image(self, image: Any, flavor: Any) -> None:
        if image and image.status not in (None, "active"):
            self.found.append(f"image: {image.name} ({image.id}) is {image.status}; it must be active")
        if not (image and flavor):
            return
        ram, disk = image.min_ram or 0, image.min_disk or 0
        if (flavor.ram or 0) < ram:
            self.found.append(f"flavor: {flavor.name} has {flavor.ram} MB of memory; image {image.name} needs {ram}")
        size = self.profile.get("boot_volume", {}).get("size", flavor.disk)
        # A flavor without a disk takes the image's size.
        if size and size < disk:
            key = "boot_volume.size" if "boot_volume" in self.profile else "flavor"
            self.found.append(f"{key}: a disk of {size} GB is too small; image {image.name} needs {disk}")

    def zone(self, name: str | None) -> None:
        if name is None:
            return
        names = sorted(zone.name for zone in self.conn.compute.availability_zones())
        # `zone:host` names a hypervisor too, for who may choose one.
        if name.partition(":")[0] not in names:
            self.found.append(f"availability_zone: {name!r} is not in this cloud; there are {', '.join(names)}")

    def port(self, key: str, entry: Mapping[str, Any], offered: set[str]) -> None:
        api = self.conn.network
        network = self.one(f"{key}.network", entry["network"], api.find_network, api.networks)
        for group in entry.get("security_groups", ()):
            self.one(f"{key}.security_groups", group, api.find_security_group, api.security_groups)
        for pair in entry.get("allowed_address_pairs", ()):
            if isinstance(pair, dict):
                self.one(f"{key}.allowed_address_pairs", pair["port"], api.find_port, api.ports)
        # Without the extension openstacksdk says False, too.
        if network and "port-security" in offered and not network.is_port_security_enabled:
            self.found += [
                f"{key}.{name}: network {network.name} has port security switched off and takes none"
                for name in ("security_groups", "allowed_address_pairs")
                if entry.get(name)
            ]

    def extensions(self, offered: set[str]) -> None:
        for key, alias in (("security_groups", "security-group"), ("allowed_address_pairs", "allowed-address-pairs")):
            if alias not in offered and any(entry.get(key) for entry in self.profile["networks"]):
                self.found.append(f"networks: {key}: this cloud's Neutron does not have the extension {alias}")
