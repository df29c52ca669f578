"""What the tests make in the customer's project, and how they take it away again.

Everything carries PREFIX in its name (floating IPs: in their description), so that what a killed run left behind is
found by the next one.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import tenacity
from openstack.connection import Connection
from openstack.exceptions import NotFoundException

PREFIX = "e2e-"
IMAGE, FLAVOR, EXTERNAL, USER = "debian-12", "lab.small", "external", "debian"
NETWORK = "192.168.77.0/24"

Result = TypeVar("Result")


def eventually(check: Callable[[], Result], limit: float, interval: float = 0.5) -> Result:
    """Repeat a check until it returns something true and does not raise.

    After `limit` seconds it fails as it failed the last time; one that only ever returned nothing fails by name.
    """
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_delay(limit), wait=tenacity.wait_fixed(interval), reraise=True
    ):
        with attempt:
            result = check()
            assert result, f"{getattr(check, '__name__', check)}: not within {limit:g} s"
    return result


class SSHError(AssertionError):
    """A command in a server failed, or the server did not answer."""


@dataclasses.dataclass(frozen=True)
class Account:
    """Who logs in: a private key, and a folder for what is known about servers."""

    key: Path
    folder: Path

    def ssh(
        self,
        address: str,
        command: str,
        *,
        known_as: str,
        through: str | None = None,
        timeout: float = 120,
        stdin: str | None = None,
    ) -> str:
        """Run a shell command on a server and return what it prints, without the last newline.

        known_as: name under which the server's host key is remembered; addresses go from one server to another.
        through: address of a server to jump over.
        timeout: seconds. stdin: what the command reads.  Raises SSHError.
        """
        options = (
            *("-i", str(self.key), "-oIdentitiesOnly=yes", "-oBatchMode=yes", "-oLogLevel=ERROR"),
            *("-oConnectTimeout=5", "-oServerAliveInterval=5", "-oServerAliveCountMax=3"),
        )
        known: tuple[str, ...] = (
            *(f"-oUserKnownHostsFile={self.folder / 'known_hosts'}", "-oStrictHostKeyChecking=accept-new"),
            f"-oHostKeyAlias={known_as}",
        )
        if through:
            hop = ("-oUserKnownHostsFile=/dev/null", "-oStrictHostKeyChecking=no", "-W", "%h:%p", f"{USER}@{through}")
            known += (f"-oProxyCommand={shlex.join(['ssh', '-F', 'none', *options, *hop])}",)
        words = ["ssh", "-F", "none", *options, *known, f"{USER}@{address}", command]
        try:
            done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise SSHError(f"{known_as} at {address}: {command!r} took more than {timeout:g} s") from error
        if done.returncode:
            raise SSHError(f"{known_as} at {address}: {command!r}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout.rstrip("\n")


@dataclasses.dataclass(frozen=True)
class Server:
    """A server with a floating IP.

    port: id of its port.  address: its fixed one.
    """

    cloud: Connection
    id: str
    name: str
    port: str
    address: str
    floating_ip: str
    account: Account

    def ssh(self, command: str, timeout: float = 120) -> str:
        """Run a shell command in it and return what it prints; raises SSHError."""
        return self.account.ssh(self.floating_ip, command, known_as=self.id, timeout=timeout)

    def wait_for_ssh(self, limit: float = 120) -> None:
        """Wait until it lets us in and cloud-init is done."""
        # Its sshd may begin anew while cloud-init is at work.
        eventually(lambda: self.ssh("cloud-init status --wait > /dev/null || true") == "", limit)

    def answers(self, port: int = 22, limit: float = 2) -> bool:
        """Whether a TCP connection to its floating IP is accepted within `limit` seconds."""
        return answers(self.floating_ip, port, limit)

    def pings(self, address: str) -> bool:
        """Whether an address answers it."""
        with contextlib.suppress(SSHError):
            return "1 received" in self.ssh(f"sudo ping -c 1 -W 2 {address}")
        return False

    @property
    def started(self) -> int:
        """When its init was started: another value after each boot, in ticks of the machine's clock."""
        return int(self.ssh("awk '{print $22}' /proc/1/stat"))

    def wait_for_boot_after(self, started: int, limit: float = 120) -> None:
        """Wait until it lets us in and has booted since."""
        eventually(lambda: self.started != started, limit, interval=1)
        self.wait_for_ssh()


def answers(address: str, port: int, limit: float = 2) -> bool:
    """Whether a TCP connection is accepted within `limit` seconds."""
    with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=limit):
        return True
    return False


@dataclasses.dataclass(frozen=True)
class Project:
    """A network behind a router, a security group for ssh and ping, a key pair: what servers need."""

    cloud: Connection
    account: Account
    network: Any
    subnet: Any
    router: Any
    security_group: Any
    external: Any

    @classmethod
    def make(cls, cloud: Connection, account: Account, dns: str) -> Project:
        """Make it.

        dns: address of the resolver for servers.
        """
        network_api, name = cloud.network, f"{PREFIX}lab"
        external = network_api.find_network(EXTERNAL, ignore_missing=False)
        network = network_api.create_network(name=name)
        subnet = network_api.create_subnet(
            name=name, network_id=network.id, ip_version=4, cidr=NETWORK, dns_nameservers=[dns]
        )
        router = network_api.create_router(name=name, external_gateway_info={"network_id": external.id})
        network_api.add_interface_to_router(router, subnet=subnet.id)
        group = network_api.create_security_group(name=name)
        network_api.create_security_group_rule(
            security_group_id=group.id, direction="ingress", protocol="tcp", port_range_min=22, port_range_max=22
        )
        network_api.create_security_group_rule(security_group_id=group.id, direction="ingress", protocol="icmp")
        cloud.compute.create_keypair(name=name, public_key=account.key.with_suffix(".pub").read_text().strip())
        return cls(cloud, account, network, subnet, router, group, external)

    def make_port(self, name: str, **options: Any) -> Any:
        """Make a port on the network; options: of the Neutron API."""
        return self.cloud.network.create_port(
            name=PREFIX + name, network_id=self.network.id, security_group_ids=[self.security_group.id], **options
        )

    def make_floating_ip(self, port: str) -> str:
        """Make a floating IP for a port and return its address."""
        made = self.cloud.network.create_ip(
            floating_network_id=self.external.id, port_id=port, description=PREFIX + "floating"
        )
        return str(made.floating_ip_address)

    def start_server(self, name: str, port: Any, user_data: str = "", **options: Any) -> Any:
        """Ask for a server on a port; returns at once with what Nova answered.

        options: of the Nova API.
        """
        if user_data:
            options["user_data"] = base64.b64encode(user_data.encode()).decode()
        return self.cloud.compute.create_server(
            name=PREFIX + name,
            image_id=self.cloud.image.find_image(IMAGE, ignore_missing=False).id,
            flavor_id=self.cloud.compute.find_flavor(FLAVOR, ignore_missing=False).id,
            networks=[{"port": port.id}],
            key_name=f"{PREFIX}lab",
            **options,
        )

    def make_server(self, name: str, user_data: str = "", **options: Any) -> Server:
        """Make a server with a floating IP, and wait until it lets us in."""
        port = self.make_port(name)
        floating_ip = self.make_floating_ip(port.id)
        made = self.start_server(name, port, user_data, **options)
        self.cloud.compute.wait_for_server(made, wait=180)
        address = port.fixed_ips[0]["ip_address"]
        server = Server(self.cloud, made.id, PREFIX + name, port.id, address, floating_ip, self.account)
        server.wait_for_ssh()
        return server

    def make_volume(self, name: str, **options: Any) -> Any:
        """Make a volume of 1 GB and wait for it; options: of the Cinder API."""
        storage = self.cloud.block_storage
        volume = storage.create_volume(name=PREFIX + name, size=1, **options)
        return storage.wait_for_status(volume, "available", failures=["error"], interval=1, wait=120)

    def attach(self, server: Server, volume: Any) -> str:
        """Attach a volume and return the path by which the server knows it, once it is there."""
        self.cloud.compute.create_volume_attachment(server.id, volume_id=volume.id)
        self.wait_for_volume(volume, "in-use")
        path = f"/dev/disk/by-id/virtio-{volume.id[:20]}"
        eventually(lambda: server.ssh(f"test -b {path} && echo there"), 30)
        return path

    def detach(self, server: Server, volume: Any) -> None:
        """Detach a volume, which must not be mounted."""
        self.cloud.compute.delete_volume_attachment(server.id, volume.id)
        self.wait_for_volume(volume, "available")

    def wait_for_volume(self, volume: Any, status: str) -> None:
        """Wait until a volume has a status."""
        storage = self.cloud.block_storage
        # Afresh: what it was when we last looked would do for wait_for_status.
        storage.wait_for_status(storage.get_volume(volume.id), status, failures=["error"], interval=0.5, wait=180)


def clean_up(cloud: Connection) -> None:
    """Delete everything with our prefix."""
    compute, network, storage, identity = cloud.compute, cloud.network, cloud.block_storage, cloud.identity
    delete_all(compute.servers(), compute.delete_server, compute.get_server)
    delete_all(compute.server_groups(), compute.delete_server_group)
    delete_all(compute.keypairs(), compute.delete_keypair)
    delete_all(storage.snapshots(), storage.delete_snapshot, storage.get_snapshot)
    delete_all(storage.backups(), storage.delete_backup, storage.get_backup)
    delete_all(storage.volumes(), storage.delete_volume, storage.get_volume)
    for address in network.ips():
        if str(address.description).startswith(PREFIX):
            network.delete_ip(address)
    for router in filter(ours, network.routers()):
        for port in network.ports(device_id=router.id, device_owner="network:router_interface"):
            network.remove_interface_from_router(router, port=port.id)
        network.delete_router(router)
    delete_all(network.ports(), network.delete_port)
    delete_all(network.networks(), network.delete_network)
    delete_all(network.security_groups(), network.delete_security_group)
    user = cloud.current_user_id
    for credential in filter(ours, identity.application_credentials(user)):
        identity.delete_application_credential(user, credential)


def ours(resource: Any) -> bool:
    """Whether it carries our prefix."""
    return str(resource.name).startswith(PREFIX)


def delete_all(found: Any, delete: Callable[[Any], Any], get: Callable[[Any], Any] | None = None) -> None:
    """Delete those of a list that are ours; with `get`, wait until they are gone."""
    chosen = list(filter(ours, found))
    for resource in chosen:
        delete(resource)
    if get:
        for resource in chosen:
            eventually(functools.partial(gone, get, resource), 180)


def gone(get: Callable[[Any], Any], resource: Any) -> bool:
    """Whether a resource cannot be found any more."""
    try:
        get(resource)
    except NotFoundException:
        return True
    return False
