"""A project in memory, made of openstacksdk's own resources: what the cloud code sees of Neutron, Nova and Cinder."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

from keystoneauth1.access.access import AccessInfoV3
from openstack.block_storage.v3.backup import Backup
from openstack.block_storage.v3.limits import AbsoluteLimit
from openstack.block_storage.v3.snapshot import Snapshot
from openstack.block_storage.v3.volume import Volume
from openstack.compute.v2.availability_zone import AvailabilityZone
from openstack.compute.v2.flavor import Flavor
from openstack.compute.v2.keypair import Keypair
from openstack.compute.v2.limits import AbsoluteLimits
from openstack.compute.v2.server import Server
from openstack.compute.v2.server_group import ServerGroup
from openstack.exceptions import ConflictException, DuplicateResource, NotFoundException, ResourceFailure
from openstack.identity.v3.application_credential import ApplicationCredential
from openstack.image.v2.image import Image
from openstack.network.v2.extension import Extension
from openstack.network.v2.floating_ip import FloatingIP
from openstack.network.v2.network import Network
from openstack.network.v2.port import Port
from openstack.network.v2.quota import QuotaDetails
from openstack.network.v2.router import Router
from openstack.network.v2.security_group import SecurityGroup
from openstack.network.v2.security_group_rule import SecurityGroupRule
from openstack.network.v2.subnet import Subnet


class Table:
    """One kind of object: listed, found, made, changed and deleted like a proxy's."""

    def __init__(self, cloud, resource):
        self.cloud, self.resource, self.items = cloud, resource, {}

    def list(self, details=True, name=None, **query):
        wanted = name.strip("^$") if name and name.startswith("^") else name
        for item in list(self.items.values()):
            exact = (
                wanted is None
                or item.name == wanted
                or (not name.endswith("$") and name != wanted and item.name.startswith(wanted))
            )
            if exact and all(getattr(item, key) == value for key, value in query.items()):
                yield item

    def find(self, name_or_id, ignore_missing=True):
        if name_or_id in self.items:
            return self.items[name_or_id]
        found = [item for item in self.items.values() if item.name == name_or_id]
        if len(found) > 1:
            raise DuplicateResource(f"more than one {name_or_id}")
        return found[0] if found else None

    def get(self, item_id):
        return self.items[item_id]

    def create(self, **values):
        values.setdefault("id", f"{self.resource.__name__}-{next(self.cloud.numbers)}")
        self.cloud.requests.append((f"create {self.resource.__name__}", values))
        item = self.resource(**values)
        self.items[item.id] = item
        return item

    def update(self, item, **values):
        self.cloud.requests.append((f"update {self.resource.__name__}", values))
        item = self.items[item.id]
        item._update(**values)
        return item

    def delete(self, item, ignore_missing=True):
        item_id = item if isinstance(item, str) else item.id
        self.cloud.requests.append((f"delete {self.resource.__name__}", item_id))
        if self.items.pop(item_id, None) is None:
            raise NotFoundException(f"no {item_id}")


class Cloud:
    """A connection. `requests` has every change that was asked for: (what, values)."""

    current_user_id, current_project_id = "user", "project"

    def __init__(self):
        self.numbers = itertools.count(1)
        self.requests: list[tuple[str, Any]] = []
        tables = {
            "networks": Network, "subnets": Subnet, "routers": Router, "ports": Port, "ips": FloatingIP,
            "security_groups": SecurityGroup, "security_group_rules": SecurityGroupRule,
            "servers": Server, "server_groups": ServerGroup, "keypairs": Keypair, "flavors": Flavor, "images": Image,
            "volumes": Volume, "snapshots": Snapshot, "backups": Backup,
            "application_credentials": ApplicationCredential,
        }  # fmt: skip
        self.tables = {name: Table(self, resource) for name, resource in tables.items()}
        self.network, self.compute, self.image, self.block_storage, self.identity = (
            SimpleNamespace() for _ in range(5)
        )
        for proxy, names in (
            (
                self.network,
                ["networks", "subnets", "routers", "ports", "ips", "security_groups", "security_group_rules"],
            ),
            (self.compute, ["servers", "server_groups", "keypairs", "flavors"]),
            (self.image, ["images"]),
            (self.block_storage, ["volumes", "snapshots", "backups"]),
            (self.identity, ["application_credentials"]),
        ):
            for name in names:
                self._offer(proxy, name)
        self._special()
        self.network.create_network(name="external", is_router_external=True)
        self.requests.clear()

    def _offer(self, proxy, name):
        table, one = self.tables[name], name[:-1]
        setattr(proxy, name, table.list)
        for verb in ("find", "get", "create", "update", "delete"):
            setattr(proxy, f"{verb}_{one}", getattr(table, verb))

    def _special(self):
        network, compute, tables = self.network, self.compute, self.tables
        network.create_security_group_rules = lambda bodies: [
            tables["security_group_rules"].create(**body) for body in bodies
        ]
        network.create_ip = self._create_ip
        network.create_port = self._create_port
        network.add_interface_to_router = self._add_interface
        network.remove_interface_from_router = lambda router, port_id: tables["ports"].delete(port_id)
        network.delete_network = self._delete_network
        compute.create_server = self._create_server
        compute.wait_for_server = self._wait_for_server
        compute.wait_for_delete = lambda server, **_: server
        compute.set_server_metadata = lambda server, **metadata: (
            tables["servers"].items[server.id].metadata.update(metadata)
        )
        compute.delete_server_metadata = lambda server, keys: [
            tables["servers"].items[server.id].metadata.pop(key, None) for key in keys
        ]
        self.server_status = "ACTIVE"
        self.identity.application_credentials = lambda user: tables["application_credentials"].list()
        self.identity.create_application_credential = lambda user, **values: tables["application_credentials"].create(
            **{"secret": "s3cret", **values}
        )
        self.identity.delete_application_credential = lambda user, item: tables["application_credentials"].delete(item)
        self.block_storage.find_type = lambda name: None
        self.block_storage.types = list
        self.extensions = ["security-group", "allowed-address-pairs", "router"]
        network.extensions = lambda: [Extension(alias=alias) for alias in self.extensions]
        compute.availability_zones = lambda: [AvailabilityZone(name="nova", state={"available": True})]
        # Quota by field; what is not named is not limited.
        self.compute_quota: dict[str, int] = {}
        self.network_quota: dict[str, dict[str, int]] = {}
        self.storage_quota: dict[str, int] = {}
        compute.get_limits = lambda: SimpleNamespace(absolute=AbsoluteLimits(**self.compute_quota))
        network.get_quota = lambda project, details: QuotaDetails(**self.network_quota)
        self.block_storage.get_limits = lambda: SimpleNamespace(absolute=AbsoluteLimit(**self.storage_quota))
        self.config = SimpleNamespace(
            get_auth_args=lambda: {"auth_url": "https://192.0.2.1:5000/v3"},
            get_region_name=lambda service=None: "One",
            get_interface=lambda service: "public",
            get_requests_verify_args=lambda: (True, None),
        )
        # Of the token that clouds.yaml's account got.
        catalogue = [{"type": name, "endpoints": []} for name in ("identity", "compute", "network", "block-storage")]
        token = {"roles": [{"id": "1", "name": "member"}], "methods": ["password"], "catalog": catalogue}
        self.token = AccessInfoV3({"token": token}, "id")
        self.session = SimpleNamespace(auth=SimpleNamespace(get_access=lambda session: self.token))

    def _create_ip(self, **values):
        return self.tables["ips"].create(floating_ip_address=f"203.0.113.{next(self.numbers)}", **values)

    def _create_port(self, **values):
        values.setdefault("fixed_ips", [{"ip_address": f"10.30.0.{100 + next(self.numbers)}"}])
        return self.tables["ports"].create(**values)

    def _add_interface(self, router, subnet_id):
        network_id = self.tables["subnets"].items[subnet_id].network_id
        self.tables["ports"].create(
            device_id=router.id, device_owner="network:router_interface", network_id=network_id, name=""
        )

    def _delete_network(self, network, ignore_missing=True):
        if any(port.network_id == network.id for port in self.tables["ports"].items.values()):
            raise ConflictException("there are ports on the network")
        self.tables["networks"].delete(network)

    def _create_server(self, **values):
        networks = values.pop("networks")
        values.pop("scheduler_hints", None)
        flavor = {"original_name": self.tables["flavors"].items[values["flavor_id"]].name}
        server = self.tables["servers"].create(status="BUILD", **values | {"flavor": flavor})
        addresses = [self.tables["ports"].items[entry["port"]].fixed_ips[0]["ip_address"] for entry in networks]
        entries = [{"addr": address, "OS-EXT-IPS:type": "fixed"} for address in addresses]
        server._update(addresses={"network": entries})
        return server

    def _wait_for_server(self, server, **_):
        server = self.tables["servers"].items[server.id]
        server._update(status=self.server_status, fault={"message": "No valid host"})
        if self.server_status != "ACTIVE":
            raise ResourceFailure("ERROR")
        return server

    def names(self):
        """Return everything there is but the external network: {kind: names}."""
        found = {
            kind: sorted(str(item.name or item.id) for item in table.items.values() if item.name != "external")
            for kind, table in self.tables.items()
        }
        return {kind: names for kind, names in found.items() if names}
