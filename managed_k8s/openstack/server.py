"""Making and removing one server with its ports, floating IP and boot volume."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import openstack.exceptions
from openstack.connection import Connection

from managed_k8s import names
from managed_k8s.openstack.connection import CloudError

Say = Callable[[str], None]

# A server that is not ACTIVE after this many seconds never will be.
ACTIVE_TIMEOUT = 600
GONE_TIMEOUT = 300
# In the metadata of a server until its minion is installed, so that another run goes on with it.
PENDING = "salt-minion"
# Never completed, so it may be removed when that fails; completed once, so it may not.
NEW, AGAIN = "pending", "pending again"


def create(conn: Connection, name: str, profile: Mapping[str, Any], key_name: str, say: Say) -> Any:
    """Return the server of this name, ACTIVE, with its ports and floating IP; what is there already is kept.

    profile: a valid one. key_name: of a Nova keypair. The server is marked as pending.
    Raises CloudError.
    """
    server = find(conn, name)
    if server is not None:
        _check_kept(server, profile)
        if server.status == "ERROR":
            remove(conn, server)
            server = None
    ports = [_port(conn, name, index, entry, profile) for index, entry in enumerate(profile["networks"])]
    if server is None:
        say("create server")
        server = _boot(conn, name, profile, key_name, ports)
    elif not is_pending(server):
        conn.compute.set_server_metadata(server, **{PENDING: AGAIN})
    if profile.get("floating_ip"):
        _floating_ip(conn, name, profile, ports[0])
    _await_active(conn, server)
    return conn.compute.get_server(server.id)


def find(conn: Connection, name: str) -> Any:
    """Return the server of this name, or None. Raises CloudError when there are several."""
    found = _named(conn, name)
    if len(found) > 1:
        ids = ", ".join(server.id for server in found)
        raise CloudError(f"there are {len(found)} servers {name} ({ids}): remove all but one")
    return found[0] if found else None


def _named(conn: Connection, name: str) -> list[Any]:
    # Nova takes a regular expression, of its database's dialect: what else it matches is left out here.
    found = conn.compute.servers(details=True, name=f"^{name}$")
    return [server for server in found if server.name == name]


def is_pending(server: Any) -> bool:
    """Tell whether the making of a server was not completed."""
    return PENDING in (server.metadata or {})


def was_complete(server: Any) -> bool:
    """Tell whether a server was completed once, so that there may be data on it."""
    return (server.metadata or {}).get(PENDING) != NEW


def complete(conn: Connection, server: Any) -> Any:
    """Note that a server's minion is installed; return the server as it is now."""
    conn.compute.delete_server_metadata(server, keys=[PENDING])
    return conn.compute.get_server(server.id)


def _check_kept(server: Any, profile: Mapping[str, Any]) -> None:
    """Raise CloudError when a server of the name is not one that this profile made."""
    owner = (server.metadata or {}).get(names.CLUSTER)
    if owner != profile.get("cluster"):
        raise CloudError(
            f"a server {server.name} ({server.id}) is there already and belongs to {owner or 'no cluster'}: "
            "rename it, or choose another name"
        )
    if server.status == "ERROR" and was_complete(server):
        raise CloudError(
            f"server {server.name} is in state ERROR ({_fault(server)}): remove it with salt-cloud -d first"
        )


def _port(conn: Connection, name: str, index: int, entry: Mapping[str, Any], profile: Mapping[str, Any]) -> Any:
    """Return a port as the profile describes it, made or corrected."""
    port_name = name if index == 0 else f"{name}-{index}"
    values: dict[str, Any] = {
        "allowed_address_pairs": [{"ip_address": _pair(conn, pair)} for pair in entry.get("allowed_address_pairs", ())]
    }
    if "security_groups" in entry:
        find_group = conn.network.find_security_group
        values["security_group_ids"] = [_id(find_group, "security group", group) for group in entry["security_groups"]]
    for port in conn.network.ports(name=port_name):
        if port.description == _description(name, profile):
            return _corrected(conn, port, values)
    if "fixed_ip" in entry:
        values["fixed_ips"] = [{"ip_address": entry["fixed_ip"]}]
    return conn.network.create_port(
        name=port_name,
        description=_description(name, profile),
        network_id=_id(conn.network.find_network, "network", entry["network"]),
        **values,
    )


def _corrected(conn: Connection, port: Any, values: Mapping[str, Any]) -> Any:
    present = {
        "allowed_address_pairs": [{"ip_address": pair["ip_address"]} for pair in port.allowed_address_pairs or ()],
        "security_group_ids": port.security_group_ids,
    }
    changed = {key: value for key, value in values.items() if _sorted(present[key]) != _sorted(value)}
    return conn.network.update_port(port, **changed) if changed else port


def _sorted(items: Iterable[Any]) -> list[Any]:
    return sorted(items, key=repr)


def _pair(conn: Connection, pair: str | Mapping[str, str]) -> str:
    if isinstance(pair, str):
        return pair
    port = conn.network.find_port(pair["port"])
    if port is None:
        raise CloudError(f"allowed_address_pairs: there is no port {pair['port']}")
    return str(port.fixed_ips[0]["ip_address"])


def _id(find_one: Callable[[str], Any], kind: str, name: str) -> str:
    try:
        found = find_one(name)
    except openstack.exceptions.DuplicateResource:
        raise CloudError(f"there are several objects of kind {kind} named {name!r}: give the id instead") from None
    if found is None:
        raise CloudError(f"{kind} {name!r} is not in this project")
    return str(found.id)


def _description(name: str, profile: Mapping[str, Any]) -> str:
    """Return the mark of a server's ports and floating IPs, by which they are found again."""
    return names.tag(profile["cluster"]) if "cluster" in profile else f"salt-cloud:{name}"


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
    if "user_data" in profile:
        values["user_data"] = base64.b64encode(profile["user_data"].encode()).decode()
    values |= {key: profile[key] for key in ("availability_zone", "config_drive") if key in profile}
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
    metadata = {**profile.get("metadata", {}), PENDING: NEW}
    node = names.parse(name)
    if "cluster" in profile:
        metadata[names.CLUSTER] = profile["cluster"]
    if node and profile.get("cluster") == node.cluster:
        metadata[names.ROLE] = node.role
    return metadata


def _await_active(conn: Connection, server: Any) -> None:
    if server.status == "ACTIVE":
        return
    try:
        conn.compute.wait_for_server(server, status="ACTIVE", interval=1, wait=ACTIVE_TIMEOUT)
    except openstack.exceptions.ResourceFailure:
        raise CloudError(f"server {server.name} went to ERROR: {_fault(conn.compute.get_server(server.id))}") from None
    except openstack.exceptions.ResourceTimeout:
        raise CloudError(f"server {server.name} was not ACTIVE after {ACTIVE_TIMEOUT} seconds") from None


def _fault(server: Any) -> str:
    return str((server.fault or {}).get("message") or "the cloud says nothing more")


def _floating_ip(conn: Connection, name: str, profile: Mapping[str, Any], port: Any) -> None:
    if any(True for _ in conn.network.ips(port_id=port.id)):
        return
    network = _id(conn.network.find_network, "network", profile["floating_ip"])
    conn.network.create_ip(floating_network_id=network, port_id=port.id, description=_description(name, profile))


def destroy(conn: Connection, name: str) -> bool:
    """Remove the servers of this name with what was made for them; return whether there was anything.

    Ports and floating IPs that somebody else made and attached stay.
    """
    servers = _named(conn, name)
    ports = _own_ports(conn, name)
    addresses = [address for port in ports for address in conn.network.ips(port_id=port.id) if _is_own(address, name)]
    for server in servers:
        remove(conn, server)
    for address in addresses:
        _quietly(conn.network.delete_ip, address)
    for port in ports:
        _quietly(conn.network.delete_port, port)
    return bool(servers or ports or addresses)


def _own_ports(conn: Connection, name: str) -> list[Any]:
    names = re.compile(rf"{re.escape(name)}(-[1-9][0-9]*)?")
    return [port for port in conn.network.ports() if names.fullmatch(port.name or "") and _is_own(port, name)]


def _is_own(item: Any, name: str) -> bool:
    node = names.parse(name)
    return item.description == f"salt-cloud:{name}" or bool(node and names.is_of(item, node.cluster))


def remove(conn: Connection, server: Any) -> None:
    """Delete a server and wait until it is gone."""
    conn.compute.delete_server(server.id, ignore_missing=True)
    try:
        conn.compute.wait_for_delete(server, interval=1, wait=GONE_TIMEOUT)
    except openstack.exceptions.ResourceTimeout:
        raise CloudError(f"server {server.name} was asked to go and is still there after {GONE_TIMEOUT} s") from None


def _quietly(action: Callable[..., Any], item: Any) -> None:
    with contextlib.suppress(openstack.exceptions.NotFoundException):
        action(item, ignore_missing=True)
