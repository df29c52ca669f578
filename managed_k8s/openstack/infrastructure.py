"""The cluster's network, router, security groups, server groups, virtual IP and its floating IP.

Everything is found by its name and the cluster's tag in its description, so a second run finds what the first one made,
however far it came, and corrects what was changed since.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import filelock
from openstack.connection import Connection

from managed_k8s import names
from managed_k8s.config.settings import Settings
from managed_k8s.openstack import security_groups, teardown
from managed_k8s.openstack.connection import CloudError, explained, persistently
from managed_k8s.state.store import Store

Say = Callable[[str], None]

# Server groups' policies: "soft" ones place servers apart where they can.
POLICIES = {"hard": "anti-affinity", "soft": "soft-anti-affinity"}


class Infrastructure:
    """What is there for a cluster, and what is missing.

    settings: the whole settings. change: False only lists what would be done, in `changes`, and counts what is missing
    by kind, in `needs`.
    """

    def __init__(
        self,
        conn: Connection,
        cluster: str,
        settings: Settings,
        say: Say = lambda text: None,
        change: bool = True,
    ) -> None:
        self.conn, self.cluster = conn, cluster
        self.settings, self.openstack = settings, settings.openstack
        self.tag = names.tag(cluster)
        self.say, self.change = say, change
        self.changes: list[str] = []
        self.needs: collections.Counter[str] = collections.Counter()

    def ensure(self) -> dict[str, Any]:
        """Make what is missing and correct what differs; return `network_id` and the virtual IP's addresses.

        Raises CloudError with everything that stands in the way.
        """
        with concurrent.futures.ThreadPoolExecutor() as pool:
            external = pool.submit(self._external)
            router = pool.submit(self._router, external)
            network = pool.submit(self._network, external, router)
            groups = [pool.submit(self._security_groups), pool.submit(self._server_groups)]
        parts = [router, network, *groups]
        problems = {str(part.exception()) for part in parts if isinstance(part.exception(), CloudError)}
        if problems:
            raise CloudError("\n".join(f"- {problem}" for problem in sorted(problems)))
        for part in parts:
            part.result()
        return network.result()

    def _network(self, external: Future[Any], router: Future[Any]) -> dict[str, Any]:
        api = self.conn.network
        network = self._one(api.networks, api.create_network, "network", self.cluster)
        subnet = network and self._subnet(network)
        if subnet and router.result():
            self._attach(router.result(), network, subnet)
        port = subnet and self._virtual_ip(network, subnet)
        # What cannot be looked for, as it would be in something that is not there.
        self.needs.update({"subnet": not network, "port": 0 if subnet else 2, "floating IP": not port})
        public = self._floating_ip(external.result(), port) if port else None
        return {
            "network_id": network and network.id,
            "virtual_ip": self.openstack.virtual_ip,
            "public_address": public,
        }

    def _external(self) -> Any:
        name = self.openstack.external_network
        external = self.conn.network.find_network(name)
        if external is None:
            names = sorted(network.name for network in self.conn.network.networks(is_router_external=True))
            raise CloudError(
                f"openstack.external_network: {name!r} is not in this project; there are {', '.join(names) or 'none'}"
            )
        return external

    def _router(self, outside: Future[Any]) -> Any:
        api, external = self.conn.network, outside.result()
        gateway = {"network_id": external.id}
        router = self._one(api.routers, api.create_router, "router", self.cluster, external_gateway_info=gateway)
        # Only administrators see it by default; a router without the attribute is no reason to stop.
        if router and router.is_distributed:
            raise CloudError(
                f"router {self.cluster} is distributed (DVR): its floating IPs do not follow the virtual IP to another "
                f"gateway. Have an administrator run: openstack router set --disable --centralized {self.cluster}; "
                f"openstack router set --enable {self.cluster}"
            )
        if router and (router.external_gateway_info or {}).get("network_id") != external.id:
            self._do(
                f"connect router {self.cluster} to {external.name}",
                lambda: api.update_router(router, external_gateway_info=gateway),
            )
        return router

    def _subnet(self, network: Any) -> Any:
        subnet = self._one(
            self.conn.network.subnets, self.conn.network.create_subnet, "subnet", self.cluster,
            network_id=network.id, ip_version=4, cidr=self.openstack.network_cidr,
            dns_nameservers=[*self.openstack.dns_servers],
        )  # fmt: skip
        if subnet and subnet.cidr != self.openstack.network_cidr:
            raise CloudError(
                f"openstack.network_cidr: subnet {self.cluster} has {subnet.cidr}, not the setting's; "
                "the range of a cluster cannot be changed: set it back, or make a cluster with another name"
            )
        if subnet and sorted(subnet.dns_nameservers) != sorted(self.openstack.dns_servers):
            self._do(
                f"set DNS servers of subnet {self.cluster}",
                lambda: self.conn.network.update_subnet(subnet, dns_nameservers=[*self.openstack.dns_servers]),
            )
        return subnet

    def _attach(self, router: Any, network: Any, subnet: Any) -> None:
        ports = self.conn.network.ports(device_id=router.id, network_id=network.id)
        if not any(True for _ in ports):
            self.needs["port"] += 1
            self._do(
                f"connect network {self.cluster} to its router",
                lambda: self.conn.network.add_interface_to_router(router, subnet_id=subnet.id),
            )

    def _virtual_ip(self, network: Any, subnet: Any) -> Any:
        address = self.openstack.virtual_ip
        port = self._one(
            self.conn.network.ports, self.conn.network.create_port, "port", names.api_port(self.cluster),
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
        api, mark = self.conn.network, f"{self.tag} api"
        for attached in api.ips(port_id=port.id):
            return str(attached.floating_ip_address)
        # One that somebody took off the port is in kubeconfigs and certificates: it comes back.
        loose = next((item for item in api.ips() if item.description == mark and item.port_id is None), None)
        if loose:
            what = f"attach floating IP {loose.floating_ip_address} to {port.name}"
            made = self._do(what, lambda: api.update_ip(loose, port_id=port.id))
        else:
            self.needs["floating IP"] += 1
            values = {"floating_network_id": external.id, "port_id": port.id, "description": mark}
            made = self._do(f"create floating IP of {port.name}", lambda: api.create_ip(**values))
        return str(made.floating_ip_address) if made else None

    def _one(self, find: Any, create: Any, kind: str, name: str, **values: Any) -> Any:
        """Return the cluster's object of this name, made if it is missing; None when it only would be made."""
        found = sorted(find(name=name), key=lambda item: str(item.id))
        own = [item for item in found if names.is_of(item, self.cluster)]
        if len(own) < len(found):
            raise CloudError(
                f"{kind} {name} is there already and is not this cluster's, for its description is not {self.tag}: "
                "rename it, or give the cluster another name"
            )
        if own:
            return own[0]
        self.needs[kind] += 1
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
                "security group", names.group(self.cluster, role),
            )
            for role in names.ROLES
        }  # fmt: skip
        # A new group has two rules of Neutron's own, which let everything out.
        missing = [role for role, group in groups.items() if not group]
        self.needs["security group rule"] += sum(
            2 + len(security_groups.of_role(role, self.settings)) for role in missing
        )
        if not missing:
            roles = {group.id: role for role, group in groups.items()}
            for role, group in groups.items():
                self._rules(role, group, groups, roles)

    def _rules(self, role: str, group: Any, groups: Mapping[str, Any], roles: Mapping[str, str]) -> None:
        wanted = security_groups.of_role(role, self.settings)
        present = {
            _rule(rule, roles): rule
            for rule in self.conn.network.security_group_rules(security_group_id=group.id, direction="ingress")
        }
        missing = sorted(wanted - present.keys(), key=repr)
        if missing:
            self.needs["security group rule"] += len(missing)
            self._do(
                "; ".join(f"allow {rule.words} to {group.name}" for rule in missing),
                lambda: list(self.conn.network.create_security_group_rules(_bodies(missing, group, groups))),
            )
        for rule in present.keys() - wanted:
            self._do(
                f"forbid {rule.words} to {group.name}",
                functools.partial(self.conn.network.delete_security_group_rule, present[rule]),
            )

    def _server_groups(self) -> None:
        present = {group.name: group for group in self.conn.compute.server_groups()}
        for role in names.ROLES:
            name = names.group(self.cluster, role)
            policy = POLICIES["soft" if role == names.WORKER else self.openstack.anti_affinity]
            if name in present and _policy(present[name]) != policy:
                self._replace_server_group(present.pop(name), policy)
            elif name not in present:
                self._create_server_group(name, policy)

    def _create_server_group(self, name: str, policy: str) -> None:
        self.needs["server group"] += 1
        self._do(
            f"create server group {name} ({policy})",
            lambda: self.conn.compute.create_server_group(name=name, policies=[policy]),
        )

    def _replace_server_group(self, group: Any, policy: str) -> None:
        if group.member_ids:
            raise CloudError(
                f"openstack.anti_affinity: server group {group.name} has the policy {_policy(group)}, which cannot be "
                f"changed to {policy} while servers are in it: set it back, or remove the servers first"
            )
        self._do(f"remove server group {group.name}", lambda: self.conn.compute.delete_server_group(group))
        self._create_server_group(group.name, policy)


def _policy(group: Any) -> str | None:
    # One policy from API version 2.64 on, before that a list.
    return group.policy or next(iter(group.policies or ()), None)


def _bodies(missing: list[security_groups.Rule], group: Any, groups: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return security group rules as Neutron takes them."""
    return [
        {
            "security_group_id": group.id,
            "direction": "ingress",
            "ether_type": "IPv4",
            "protocol": rule.protocol,
            **({"port_range_min": rule.ports[0], "port_range_max": rule.ports[1]} if rule.ports else {}),
            **(
                {"remote_group_id": groups[rule.remote].id}
                if rule.remote in groups
                else {"remote_ip_prefix": rule.remote}
            ),
        }
        for rule in missing
    ]


def _rule(rule: Any, roles: Mapping[str, str]) -> security_groups.Rule:
    ports = (rule.port_range_min, rule.port_range_max) if rule.port_range_min is not None else None
    remote = roles.get(rule.remote_group_id, rule.remote_group_id) or rule.remote_ip_prefix or "0.0.0.0/0"
    # Neutron names some protocols that were given as numbers.
    protocol = {"vrrp": security_groups.VRRP, None: "any"}.get(rule.protocol, rule.protocol)
    family = f"{rule.ether_type} " if rule.ether_type == "IPv6" else ""
    return security_groups.Rule(f"{family}{protocol}", ports, str(remote))


def ensure(conn: Connection, cluster: str, settings: Settings, say: Say = lambda text: None) -> dict[str, Any]:
    """Make the cluster's infrastructure; return `network_id`, `virtual_ip` and `public_address`.

    Nothing is changed when something stands in the way. Raises CloudError.
    """

    def look_and_make() -> dict[str, Any]:
        look = Infrastructure(conn, cluster, settings, change=False)
        found = look.ensure()
        return Infrastructure(conn, cluster, settings, say).ensure() if look.changes else found

    with explained():
        return persistently(look_and_make)


def lock(store: Store) -> filelock.BaseFileLock:
    """Return what a process holds while it makes a cluster's infrastructure."""
    return filelock.FileLock(store.path(".infra.lock"))


def correct(conn: Connection, store: Store, settings: Settings, say: Say) -> dict[str, Any]:
    """Make the infrastructure of a store's cluster; keep, and return, what ensure() does, and for which settings.

    By a process that holds lock(). Raises CloudError.
    """
    made = ensure(conn, store.cluster, settings, say) | {"digest": security_groups.digest(settings)}
    store.write("infra.json", made)
    return made


def plan(conn: Connection, cluster: str, settings: Settings) -> list[str]:
    """Return what ensure() would do, without doing it. Raises CloudError."""
    return sorted(_look(conn, cluster, settings).changes)


def needs(conn: Connection, cluster: str, settings: Settings) -> collections.Counter[str]:
    """Return how many of each kind ensure() would make, like `{"port": 2}`. Raises CloudError."""
    return _look(conn, cluster, settings).needs


def _look(conn: Connection, cluster: str, settings: Settings) -> Infrastructure:
    infrastructure = Infrastructure(conn, cluster, settings, change=False)
    with explained():
        infrastructure.ensure()
    return infrastructure


def destroy(conn: Connection, cluster: str, say: Say = lambda text: None) -> None:
    """Remove everything that belongs to the cluster, servers and volumes included, and nothing else.

    What an interrupted run left is removed by the next one. Raises CloudError with what could not be removed.
    """
    with explained():
        teardown.run(conn, cluster, say)


def destroy_plan(conn: Connection, cluster: str) -> list[str]:
    """Return what destroy() would remove, without doing it. Raises CloudError."""
    with explained():
        return teardown.plan(conn, cluster)


def public_address(conn: Connection, cluster: str) -> str | None:
    """Return the floating IP of the virtual IP."""
    for port in conn.network.ports(name=names.api_port(cluster)):
        for address in conn.network.ips(port_id=port.id):
            return str(address.floating_ip_address)
    return None
