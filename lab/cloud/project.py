"""What the cloud's operator gives to a customer: image, flavors, external network, a project with a quota."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.settings import Addresses

if TYPE_CHECKING:
    from openstack.connection import Connection

NAME = "lab"
IMAGE = "debian-12"
NETWORK = "external"
FLAVORS = {"lab.small": (1, 1024, 10), "lab.medium": (2, 3072, 20), "lab.large": (2, 4096, 20)}
QUOTAS: dict[str, dict[str, int]] = {
    "compute": {"instances": 20, "cores": 40, "ram": 65536, "server_groups": 20, "key_pairs": 20},
    "volume": {"volumes": 40, "gigabytes": 400, "snapshots": 40, "backups": 60, "backup_gigabytes": 600},
    "network": {
        "networks": 10,
        "subnets": 10,
        "routers": 5,
        "ports": 200,
        "floating_ips": 15,
        "security_groups": 40,
        "security_group_rules": 400,
    },
}


def prepare(cloud: Connection, addresses: Addresses, password: str) -> None:
    """Make whatever of it is missing.

    cloud: the administrator's connection.
    password: of the customer's user.
    """
    _flavors(cloud)
    _volume_type(cloud)
    _external_network(cloud, addresses)
    _project(cloud, password)


def _flavors(cloud: Connection) -> None:
    there = {flavor.name for flavor in cloud.compute.flavors()}
    for name, (cores, memory_mb, disk_gb) in FLAVORS.items():
        if name not in there:
            cloud.compute.create_flavor(name=name, vcpus=cores, ram=memory_mb, disk=disk_gb)


def _volume_type(cloud: Connection) -> None:
    if "standard" not in {kind.name for kind in cloud.block_storage.types()}:
        cloud.block_storage.create_type(name="standard", extra_specs={"volume_backend_name": "files"})


def _external_network(cloud: Connection, addresses: Addresses) -> None:
    network = cloud.network.find_network(NETWORK) or cloud.network.create_network(
        name=NETWORK,
        is_router_external=True,
        provider_network_type="flat",
        provider_physical_network="external",
    )
    if not network.subnet_ids:
        cloud.network.create_subnet(
            name=NETWORK,
            network_id=network.id,
            ip_version=4,
            cidr=addresses.external_network,
            gateway_ip=str(addresses.external_gateway),
            is_dhcp_enabled=False,
        )


def _project(cloud: Connection, password: str) -> None:
    identity = cloud.identity
    project = identity.find_project(NAME) or identity.create_project(name=NAME, domain_id="default")
    user = identity.find_user(NAME) or identity.create_user(
        name=NAME, password=password, domain_id="default", default_project_id=project.id
    )
    identity.assign_project_role_to_user(project, user, identity.find_role("member"))
    cloud.set_compute_quotas(project.id, **QUOTAS["compute"])
    cloud.set_volume_quotas(project.id, **QUOTAS["volume"])
    cloud.set_network_quotas(project.id, **QUOTAS["network"])


def upload_image(cloud: Connection, server_tar: Path, key: str) -> None:
    """Make the public server image the one of this key; an older one goes, but servers made from it live on.

    key: digest of what the image was made from, kept as a property.
    """
    images = list(cloud.image.images(name=IMAGE))
    if any(image.properties.get("lab_key") == key and image.status == "active" for image in images):
        return
    properties: dict[str, Any] = {"lab_key": key, "os_distro": "debian", "os_version": "12"}
    cloud.create_image(
        IMAGE,
        filename=str(server_tar),
        disk_format="raw",
        container_format="bare",
        visibility="public",
        min_disk=5,
        validate_checksum=False,
        wait=True,
        **properties,
    )
    for image in images:
        cloud.image.delete_image(image)
