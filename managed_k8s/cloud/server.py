"""Making and removing one server with its port, floating IP and boot volume."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import openstack.exceptions
from openstack.connection import Connection

from managed_k8s import naming
from managed_k8s.cloud.connection import CloudError

Say = Callable[[str], None]

# A server that is not ACTIVE after this many seconds never will be.
ACTIVE_TIMEOUT = 600
GONE_TIMEOUT = 300


def create(conn: Connection, name: str, profile: Mapping[str, Any], key_name: str, say: Say) -> Any:
    """Return the server of this name, ACTIVE, with its ports and floating IP; what is there already is kept.

    profile: a valid one. key_name: of a Nova keypair.
    What this call made is removed when it fails. Raises CloudError.
    """
    with _undo_on_failure() as undo:
        ports = [_port(conn, name, index, entry, profile, undo) for index, entry in enumerate(profile["networks"])]
        server = _existing(conn, name)
        if server is None:
            say("create server")
            server = _boot(conn, name, profile, key_name, ports)
            undo.callback(_remove_server, conn, server)
        if profile.get("floating_ip"):
            _floating_ip(conn, name, profile, ports[0], undo)
        if server.status != "ACTIVE":
            server = _await_active(conn, server)
    return conn.compute.get_server(server.id)


@contextlib.contextmanager
def _undo_on_failure() -> Iterator[contextlib.ExitStack]:
    undo = contextlib.ExitStack()
    try:
        yield undo
    except BaseException:
        undo.close()
        raise
    undo.pop_all()


def _existing(conn: Connection, name: str) -> Any:
    """Return a server of this name that can be kept; a failed one is removed."""
    for server in conn.compute.servers(details=True, name=f"^{name}$"):
        if server.status != "ERROR":
            return server
        _remove_server(conn, server)
    return None


def _port(
    conn: Connection,
    name: str,
    index: int,
    entry: Mapping[str, Any],
    profile: Mapping[str, Any],
    undo: contextlib.ExitStack,
) -> Any:
    port_name = name if index == 0 else f"{name}-{index}"
    found = next(iter(conn.network.ports(name=port_name)), None)
    if found:
        return found
    values: dict[str, Any] = {"network_id": _id(conn.network.find_network, "network", entry["network"])}
    if "fixed_ip" in entry:
        values["fixed_ips"] = [{"ip_address": entry["fixed_ip"]}]
    if "security_groups" in entry:
        find = conn.network.find_security_group
        values["security_group_ids"] = [_id(find, "security group", group) for group in entry["security_groups"]]
    pairs = [_pair(conn, pair) for pair in entry.get("allowed_address_pairs", ())]
    port = conn.network.create_port(
        name=port_name,
        description=_tag(profile),
        allowed_address_pairs=[{"ip_address": pair} for pair in pairs],
        **values,
    )
    undo.callback(_quietly, conn.network.delete_port, port)
    return port


def _pair(conn: Connection, pair: str | Mapping[str, str]) -> str:
    if isinstance(pair, str):
        return pair
    port = conn.network.find_port(pair["port"])
    if port is None:
        raise CloudError(f"allowed_address_pairs: there is no port {pair['port']}")
    return str(port.fixed_ips[0]["ip_address"])


def _id(find: Callable[[str], Any], kind: str, name: str) -> str:
    found = find(name)
    if found is None:
        raise CloudError(f"{kind} {name!r} is not in this project")
    return str(found.id)


def _tag(profile: Mapping[str, Any]) -> str:
    return naming.tag(profile["cluster"]) if "cluster" in profile else ""


def _boot(conn: Connection, name: str, profile: Mapping[str, Any], key_name: str, ports: list[Any]) -> Any:
    image = _id(conn.image.find_image, "image", profile["image"])
    values: dict[str, Any] = {"flavor_id": _id(conn.compute.find_flavor, "flavor", profile["flavor"])}
    if "boot_volume" in profile:
        values["block_device_mapping_v2"] = [_boot_volume(image, profile["boot_volume"])]
    else:
        values["image_id"] = image
    if "server_group" in profile:
        group = _id(conn.compute.find_server_group, "server group", profile["server_group"])
        values["scheduler_hints"] = {"group": group}
    for key in ("availability_zone", "user_data", "config_drive"):
        if key in profile:
            values[key] = profile[key]
    return conn.compute.create_server(
        name=name,
        key_name=key_name,
        networks=[{"port": port.id} for port in ports],
        metadata=_metadata(name, profile),
        **values,
    )


def _boot_volume(image: str, volume: Mapping[str, Any]) -> dict[str, Any]:
    mapping = {
        "boot_index": 0, "uuid": image, "source_type": "image", "destination_type": "volume",
        "volume_size": volume["size"], "delete_on_termination": True,
    }  # fmt: skip
    return mapping | ({"volume_type": volume["type"]} if "type" in volume else {})


def _metadata(name: str, profile: Mapping[str, Any]) -> dict[str, str]:
    metadata = dict(profile.get("metadata", {}))
    node = naming.parse(name)
    if node and profile.get("cluster") == node.cluster:
        metadata |= {"managed-k8s": node.cluster, "managed-k8s-role": node.role}
    return metadata


def _await_active(conn: Connection, server: Any) -> Any:
    try:
        return conn.compute.wait_for_server(server, status="ACTIVE", interval=1, wait=ACTIVE_TIMEOUT)
    except openstack.exceptions.ResourceFailure:
        failed = conn.compute.get_server(server.id)
        reason = (failed.fault or {}).get("message", "the cloud says nothing more")
        raise CloudError(f"server {server.name} went to ERROR: {reason}") from None


def _floating_ip(
    conn: Connection, name: str, profile: Mapping[str, Any], port: Any, undo: contextlib.ExitStack
) -> None:
    if any(True for _ in conn.network.ips(port_id=port.id)):
        return
    network = _id(conn.network.find_network, "network", profile["floating_ip"])
    address = conn.network.create_ip(floating_network_id=network, port_id=port.id, description=_tag(profile))
    undo.callback(_quietly, conn.network.delete_ip, address)


def destroy(conn: Connection, name: str) -> bool:
    """Remove the servers of this name with their ports and floating IPs; return whether there was anything."""
    servers = list(conn.compute.servers(details=True, name=f"^{name}$"))
    ports = [port for index in range(8) for port in conn.network.ports(name=name if not index else f"{name}-{index}")]
    addresses = [address for port in ports for address in conn.network.ips(port_id=port.id)]
    for server in servers:
        _remove_server(conn, server)
    for address in addresses:
        _quietly(conn.network.delete_ip, address)
    for port in ports:
        _quietly(conn.network.delete_port, port)
    return bool(servers or ports or addresses)


def _remove_server(conn: Connection, server: Any) -> None:
    conn.compute.delete_server(server.id, ignore_missing=True)
    conn.compute.wait_for_delete(server, interval=1, wait=GONE_TIMEOUT)


def _quietly(action: Callable[..., Any], item: Any) -> None:
    with contextlib.suppress(openstack.exceptions.NotFoundException):
        action(item, ignore_missing=True)
