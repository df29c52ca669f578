"""The cluster's network, router, security groups, server groups, virtual IP and its floating IP.

Everything is found by its name and the cluster's tag in its description, so a second run finds what the first one made,
however far it came.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from openstack.connection import Connection

from managed_k8s import naming
from managed_k8s.cloud import rules
from managed_k8s.cloud.connection import CloudError

Say = Callable[[str], None]

# Server groups' policies: "soft" ones place servers apart where they can.
POLICIES = {"hard": "anti-affinity", "soft": "soft-anti-affinity"}


def api_port(cluster: str) -> str:
    """Return the name of the port that holds the virtual IP."""
    return f"{cluster}-api"


class Infrastructure:
    """What is there for a cluster, and what is missing.

    settings: the whole settings. change: False only lists what would be done, in `changes`.
    """

    def __init__(
        self,
        conn: Connection,
        cluster: str,
        settings: Mapping[str, Any],
        say: Say = lambda text: None,
        change: bool = True,
    ) -> None:
        self.conn, self.cluster, self.openstack = conn, cluster, settings["openstack"]
        self.tag = naming.tag(cluster)
        self.say, self.change = say, change
        self.changes: list[str] = []

    def ensure(self) -> dict[str, Any]:
        """Make what is missing and correct what differs; return the virtual IP's addresses.

        Raises CloudError when the external network is missing.
        """
        external = self.conn.network.find_network(self.openstack["external_network"])
        if external is None:
            names = sorted(network.name for network in self.conn.network.networks(is_router_external=True))
            raise CloudError(
                f"openstack.external_network: {self.openstack['external_network']!r} is not in this project; "
                f"there are {', '.join(names) or 'none'}"
            )
        with concurrent.futures.ThreadPoolExecutor() as pool:
            groups = pool.submit(self._security_groups)
            server_groups = pool.submit(self._server_groups)
            public = self._network(external)
            groups.result()
            server_groups.result()
        return {"virtual_ip": self.openstack["virtual_ip"], "public_address": public}

    def _network(self, external: Any) -> str | None:
        network = self._one(self.conn.network.networks, self.conn.network.create_network, "network", self.cluster)
        subnet = network and self._subnet(network)
        router = self._one(
            self.conn.network.routers, self.conn.network.create_router, "router", self.cluster,
            external_gateway_info={"network_id": external.id},
        )  # fmt: skip
        if subnet and router:
            self._attach(router, network, subnet)
        port = subnet and self._virtual_ip(network, subnet)
        return self._floating_ip(external, port) if port else None

    def _subnet(self, network: Any) -> Any:
        subnet = self._one(
            self.conn.network.subnets, self.conn.network.create_subnet, "subnet", self.cluster,
            network_id=network.id, ip_version=4, cidr=self.openstack["network_cidr"],
            dns_nameservers=self.openstack["dns_servers"],
        )  # fmt: skip
        if subnet and subnet.cidr != self.openstack["network_cidr"]:
            raise CloudError(
                f"openstack.network_cidr: subnet {self.cluster} has {subnet.cidr}, not the setting's; "
                "the range of a cluster cannot be changed: set it back, or make a cluster with another name"
            )
        if subnet and sorted(subnet.dns_nameservers) != sorted(self.openstack["dns_servers"]):
            self._do(
                f"set DNS servers of subnet {self.cluster}",
                lambda: self.conn.network.update_subnet(subnet, dns_nameservers=self.openstack["dns_servers"]),
            )
        return subnet

    def _attach(self, router: Any, network: Any, subnet: Any) -> None:
        ports = self.conn.network.ports(device_id=router.id, network_id=network.id)
        if not any(True for _ in ports):
            self._do(
                f"connect network {self.cluster} to its router",
                lambda: self.conn.network.add_interface_to_router(router, subnet_id=subnet.id),
            )

    def _virtual_ip(self, network: Any, subnet: Any) -> Any:
        address = self.openstack["virtual_ip"]
        port = self._one(
            self.conn.network.ports, self.conn.network.create_port, "port", api_port(self.cluster),
            network_id=network.id, fixed_ips=[{"subnet_id": subnet.id, "ip_address": address}],
            # Never bound to a server: only its address matters, so nothing may pass through the port itself.
            security_groups=[],
        )  # fmt: skip
        held = [fixed["ip_address"] for fixed in port.fixed_ips] if port else [address]
        if held != [address]:
            raise CloudError(
                f"openstack.virtual_ip: port {port.name} has {', '.join(held)}, not {address}; the API's address is in "
                "every certificate and cannot be changed: set it back"
            )
        return port

    def _floating_ip(self, external: Any, port: Any) -> str | None:
        found = next(iter(self.conn.network.ips(port_id=port.id)), None)
        # One that an interrupted run made and did not attach is taken again.
        found = found or self._do(
            f"create floating IP of {port.name}",
            lambda: self.conn.network.create_ip(floating_network_id=external.id, port_id=port.id, description=self.tag),
        )
        return str(found.floating_ip_address) if found else None

    def _one(self, find: Any, create: Any, kind: str, name: str, **values: Any) -> Any:
        """Return the cluster's object of this name, made if it is missing; None when it only would be made."""
        found = [item for item in find(name=name) if item.description == self.tag]
        if found:
            return found[0]
        return self._do(f"create {kind} {name}", lambda: create(name=name, description=self.tag, **values))

    def _do(self, what: str, action: Callable[[], Any]) -> Any:
        self.changes.append(what)
        if not self.change:
            return None
        self.say(what)
        return action()

    # Groups

    def _security_groups(self) -> None:
        groups = {
            role: self._one(
                self.conn.network.security_groups, self.conn.network.create_security_group,
                "security group", f"{self.cluster}-{role}",
            )
            for role in naming.ROLES
        }  # fmt: skip
        if all(groups.values()):
            roles = {group.id: role for role, group in groups.items()}
            for role, group in groups.items():
                self._rules(role, group, groups, roles)

    def _rules(self, role: str, group: Any, groups: Mapping[str, Any], roles: Mapping[str, str]) -> None:
        wanted = rules.of_role(role, self.openstack)
        present = {
            _rule(rule, roles): rule
            for rule in self.conn.network.security_group_rules(security_group_id=group.id, direction="ingress")
        }
        for rule in sorted(wanted - present.keys(), key=repr):
            self._do(f"allow {_words(rule)} to {group.name}", lambda rule=rule: self._allow(rule, group, groups))
        for rule in present.keys() - wanted:
            self._do(
                f"forbid {_words(rule)} to {group.name}",
                lambda rule=rule: self.conn.network.delete_security_group_rule(present[rule]),
            )

    def _allow(self, rule: rules.Rule, group: Any, groups: Mapping[str, Any]) -> Any:
        remote = (
            {"remote_group_id": groups[rule.remote].id} if rule.remote in groups else {"remote_ip_prefix": rule.remote}
        )
        ports = {"port_range_min": rule.ports[0], "port_range_max": rule.ports[1]} if rule.ports else {}
        return self.conn.network.create_security_group_rule(
            security_group_id=group.id,
            direction="ingress",
            ether_type="IPv4",
            protocol=rule.protocol,
            **ports,
            **remote,
        )

    def _server_groups(self) -> None:
        present = {group.name for group in self.conn.compute.server_groups()}
        for role in naming.ROLES:
            name = f"{self.cluster}-{role}"
            strictness = "soft" if role == naming.WORKER else self.openstack["anti_affinity"]
            if name not in present:
                self._do(
                    f"create server group {name}",
                    lambda name=name, policy=POLICIES[strictness]: self._create_server_group(name, policy),
                )

    def _create_server_group(self, name: str, policy: str) -> Any:
        # From API version 2.64 on a group has one policy; older clouds take a list.
        return self.conn.compute.create_server_group(name=name, policy=policy, microversion="2.64")


def _rule(rule: Any, roles: Mapping[str, str]) -> rules.Rule:
    ports = (rule.port_range_min, rule.port_range_max) if rule.port_range_min is not None else None
    remote = roles.get(rule.remote_group_id, rule.remote_group_id) or rule.remote_ip_prefix or "0.0.0.0/0"
    # Neutron names some protocols that were given as numbers.
    protocol = {"vrrp": rules.VRRP, None: "any"}.get(rule.protocol, rule.protocol)
    return rules.Rule(str(protocol), ports, str(remote))


def _words(rule: rules.Rule) -> str:
    ports = "" if rule.ports is None else f" {rule.ports[0]}" if len(set(rule.ports)) == 1 else f" {rule.ports}"
    return f"{rule.protocol}{ports} from {rule.remote}"


def ensure(conn: Connection, cluster: str, settings: Mapping[str, Any], say: Say = lambda text: None) -> dict[str, Any]:
    """Make the cluster's infrastructure; return `virtual_ip` and `public_address`.

    Raises CloudError.
    """
    return Infrastructure(conn, cluster, settings, say).ensure()


def plan(conn: Connection, cluster: str, settings: Mapping[str, Any]) -> list[str]:
    """Return what ensure() would do, without doing it. Raises CloudError."""
    infrastructure = Infrastructure(conn, cluster, settings, change=False)
    infrastructure.ensure()
    return infrastructure.changes


def public_address(conn: Connection, cluster: str) -> str | None:
    """Return the floating IP of the virtual IP."""
    for port in conn.network.ports(name=api_port(cluster)):
        for address in conn.network.ips(port_id=port.id):
            return str(address.floating_ip_address)
    return None


def mine(items: Iterable[Any], cluster: str) -> list[Any]:
    """Return the items that carry the cluster's tag in their description."""
    return [item for item in items if item.description == naming.tag(cluster)]
