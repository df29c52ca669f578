"""OpenStack's part of bench/by_hand.sh: everything of a cluster below Kubernetes, made and removed as a plain user.

Everything independent is asked for at once.  What was made is written to the work folder:
`cloud.json` (addresses, application credential) and `ssh.conf` (every server by its name, through the gateways).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import openstack

CLUSTER = "bh"
NETWORK, VIRTUAL_IP, DNS, EXTERNAL = "10.31.0.0/24", "10.31.0.5", "10.77.0.10", "external"
SERVERS = {"gateway": (2, "lab.small"), "master": (3, "lab.medium"), "worker": (2, "lab.medium")}
ANYWHERE = "0.0.0.0/0"

Item = TypeVar("Item")
Result = TypeVar("Result")


def main() -> None:
    """Make or remove it."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("verb", choices=["up", "down"])
    arguments.add_argument("work", type=Path, help="folder with id.pub; gets cloud.json and ssh.conf")
    options = arguments.parse_args()
    cloud = openstack.connect()
    if options.verb == "up":
        up(cloud, options.work)
    else:
        down(cloud)


def up(cloud: Any, work: Path) -> None:
    """Make everything; return when all servers are ACTIVE."""
    with ThreadPoolExecutor(12) as pool:
        credential = pool.submit(cloud.identity.create_application_credential, cloud.current_user_id, CLUSTER)
        keypair = pool.submit(
            cloud.compute.create_keypair, name=CLUSTER, public_key=(work / "id.pub").read_text().strip()
        )
        groups = {role: pool.submit(_server_group, cloud, role) for role in SERVERS}
        security = pool.submit(_security_groups, cloud)
        external = cloud.network.find_network(EXTERNAL, ignore_missing=False)
        network = cloud.network.create_network(name=CLUSTER)
        subnet = cloud.network.create_subnet(
            name=CLUSTER, network_id=network.id, ip_version=4, cidr=NETWORK, dns_nameservers=[DNS]
        )
        router = pool.submit(_router, cloud, external.id, subnet.id)
        security_groups = security.result()
        virtual = cloud.network.create_port(
            name=f"{CLUSTER}-api",
            network_id=network.id,
            fixed_ips=[{"ip_address": VIRTUAL_IP}],
            security_group_ids=[security_groups["gateway"]],
        )
        image = cloud.image.find_image("debian-12").id
        keypair.result()

        def server(name: str) -> tuple[str, Any, Any]:
            role = name.split("-")[1]
            port = cloud.network.create_port(
                name=name,
                network_id=network.id,
                security_group_ids=[security_groups[role]],
                **({"allowed_address_pairs": [{"ip_address": f"{VIRTUAL_IP}/32"}]} if role == "gateway" else {}),
            )
            return (
                name,
                port,
                cloud.compute.create_server(
                    name=name,
                    image_id=image,
                    flavor_id=cloud.compute.find_flavor(SERVERS[role][1]).id,
                    networks=[{"port": port.id}],
                    key_name=CLUSTER,
                    scheduler_hints={"group": groups[role].result().id},
                ),
            )

        servers = list(pool.map(server, names()))
        router.result()
        public = {"api": _floating_ip(cloud, external.id, virtual.id)}
        gateways = [(name, port) for name, port, _ in servers if "gateway" in name]
        public |= {name: _floating_ip(cloud, external.id, port.id) for name, port in gateways}
        addresses = {name: port.fixed_ips[0]["ip_address"] for name, port, _ in servers}
        _write(work, cloud, addresses, public, credential.result())
        for _, _, made in servers:
            cloud.compute.wait_for_server(made, interval=1, wait=300)


def names() -> list[str]:
    """Return the servers' names."""
    return [f"{CLUSTER}-{role}-{number + 1}" for role, (count, _) in SERVERS.items() for number in range(count)]


def _server_group(cloud: Any, role: str) -> Any:
    policy = "soft-anti-affinity" if role == "worker" else "anti-affinity"
    return cloud.compute.create_server_group(name=f"{CLUSTER}-{role}", policy=policy)


def _router(cloud: Any, external: str, subnet: str) -> Any:
    router = cloud.network.create_router(name=CLUSTER, external_gateway_info={"network_id": external})
    cloud.network.add_interface_to_router(router, subnet_id=subnet)
    return router


def _security_groups(cloud: Any) -> dict[str, str]:
    """Return role -> id: gateways are open for SSH and the API, the rest is open to the cluster's own servers."""
    groups = {role: cloud.network.create_security_group(name=f"{CLUSTER}-{role}").id for role in SERVERS}
    rules: list[dict[str, Any]] = [
        {"group": "gateway", "protocol": "tcp", "port": 22, "remote_ip_prefix": ANYWHERE},
        {"group": "gateway", "protocol": "tcp", "port": 6443, "remote_ip_prefix": ANYWHERE},
        {"group": "gateway", "protocol": "112", "remote_group_id": groups["gateway"]},
        *({"group": role, "remote_ip_prefix": NETWORK} for role in ("master", "worker")),
    ]

    def create(rule: dict[str, Any]) -> None:
        port, group = rule.pop("port", None), groups[rule.pop("group")]
        cloud.network.create_security_group_rule(
            security_group_id=group,
            direction="ingress",
            ethertype="IPv4",
            port_range_min=port,
            port_range_max=port,
            **rule,
        )

    for rule in rules:
        create(rule)
    return groups


def _floating_ip(cloud: Any, external: str, port: str) -> str:
    made = cloud.network.create_ip(floating_network_id=external, port_id=port, description=CLUSTER)
    address: str = made.floating_ip_address
    return address


def _write(work: Path, cloud: Any, addresses: dict[str, str], public: dict[str, str], credential: Any) -> None:
    ca = cloud.config.config.get("cacert")
    facts = {
        "virtual_ip": VIRTUAL_IP,
        "addresses": addresses,
        "public": public,
        "credential": {
            "id": credential.id,
            "secret": credential.secret,
            "auth_url": cloud.config.config["auth"]["auth_url"],
            "region": cloud.config.get_region_name(),
            "ca": Path(ca).read_text() if ca else None,
        },
    }
    (work / "cloud.json").write_text(json.dumps(facts, indent=1))
    lines = [
        *("Host *", "User debian", f"IdentityFile {work}/id", "IdentitiesOnly yes", "BatchMode yes"),
        *("StrictHostKeyChecking no", "UserKnownHostsFile /dev/null", "LogLevel ERROR", "ConnectTimeout 3"),
        *("ControlMaster auto", f"ControlPath {work}/ssh-%n", "ControlPersist 600"),
    ]
    for name, address in addresses.items():
        lines += [f"Host {name}", f"HostName {public.get(name, address)}"]
        lines += [] if name in public else [f"ProxyJump {CLUSTER}-gateway-{1 + len(lines) // 3 % 2}"]
    (work / "ssh.conf").write_text("\n".join(lines) + "\n")


def down(cloud: Any) -> None:
    """Remove everything of this name, whatever is left of it."""
    servers = [server for server in cloud.compute.servers() if server.name in names()]
    volumes = [volume for volume in cloud.block_storage.volumes() if _ours(volume)]
    _each(servers, lambda server: cloud.compute.delete_server(server, force=True))
    _each(servers, lambda server: cloud.compute.wait_for_delete(server, interval=1, wait=300))
    for snapshot in [s for s in cloud.block_storage.snapshots() if s.volume_id in {v.id for v in volumes}]:
        cloud.block_storage.delete_snapshot(snapshot)
        cloud.block_storage.wait_for_delete(snapshot, interval=1, wait=120)
    _each(volumes, cloud.block_storage.delete_volume)
    _each(cloud.network.ips(description=CLUSTER), cloud.network.delete_ip)
    # An interrupted run leaves parts; several leave several of one name.
    for router in cloud.network.routers(name=CLUSTER):
        for port in cloud.network.ports(device_id=router.id, device_owner="network:router_interface"):
            cloud.network.remove_interface_from_router(router, port_id=port.id)
        cloud.network.delete_router(router)
    for network in cloud.network.networks(name=CLUSTER):
        mine = [port for port in cloud.network.ports(network_id=network.id) if port.name.startswith(f"{CLUSTER}-")]
        _each(mine, cloud.network.delete_port)
        cloud.network.delete_network(network)
    for role in SERVERS:
        for group in cloud.network.security_groups(name=f"{CLUSTER}-{role}"):
            cloud.network.delete_security_group(group)
    ours = [group for group in cloud.compute.server_groups() if group.name in {f"{CLUSTER}-{r}" for r in SERVERS}]
    _each(ours, cloud.compute.delete_server_group)
    cloud.compute.delete_keypair(CLUSTER)
    credentials = cloud.identity.application_credentials(cloud.current_user_id, name=CLUSTER)
    _each(credentials, lambda one: cloud.identity.delete_application_credential(cloud.current_user_id, one))


def _ours(volume: Any) -> bool:
    cluster: bool = volume.metadata.get("cinder.csi.openstack.org/cluster") == CLUSTER
    return cluster


def _each(items: Iterable[Item], work: Callable[[Item], Result]) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, list(items)))


if __name__ == "__main__":
    main()
