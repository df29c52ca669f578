"""From configured packages to a cloud: databases, accounts, catalogue, hypervisors.  Every step can be run again."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING, Any

import tenacity

from lab.cloud.configuration import hypervisors
from lab.cloud.services import ENDPOINTS, IDENTITY
from lab.machine import Machine
from lab.progress import Step
from lab.settings import Addresses

if TYPE_CHECKING:
    from openstack.connection import Connection

BOOTSTRAPPED, DISCOVERED = "/var/lib/lab/bootstrapped", "/var/lib/lab/discovered"
DATABASES = {
    "keystone": ("keystone",),
    "glance": ("glance",),
    "placement": ("placement",),
    "nova": ("nova", "nova_api", "nova_cell0"),
    "neutron": ("neutron",),
    "cinder": ("cinder",),
}
ACCOUNTS = ("glance", "placement", "nova", "neutron", "cinder")
REGION = "RegionOne"


def bootstrapped(machine: Machine) -> bool:
    """Whether bootstrap was run to its end."""
    return _marked(machine, BOOTSTRAPPED)


def bootstrap(
    machine: Machine, addresses: Addresses, secrets: dict[str, str], admin: dict[str, Any], step: Step
) -> None:
    """Make the cloud, and start its services.

    admin: arguments for openstack.connect as the cloud's administrator.
    """
    step.update("databases")
    _databases(machine, secrets)
    step.update("keystone")
    _keystone(machine, addresses, secrets)
    step.update("schemas of glance, placement, nova, neutron, cinder")
    _schemas(machine, addresses, secrets)
    step.update("catalogue")
    _catalogue(addresses, secrets, admin)
    _mark(machine, BOOTSTRAPPED)
    step.update("services")
    machine.run("systemctl", "start", "openstack.target")


def _databases(machine: Machine, secrets: dict[str, str]) -> None:
    for unit in ("mariadb", "rabbitmq-server", "memcached"):
        machine.run("systemctl", "start", unit)
    statements = [
        f"CREATE DATABASE IF NOT EXISTS {name} CHARACTER SET utf8mb3; "
        f"GRANT ALL ON {name}.* TO '{user}'@'%' IDENTIFIED BY '{secrets['database']}';"
        for user, names in DATABASES.items()
        for name in names
    ]
    machine.run("mysql", stdin="\n".join(statements))
    script = """
        read -r password
        rabbitmqctl -q await_startup
        rabbitmqctl -q list_users | grep -q ^openstack || printf %s "$password" | rabbitmqctl -q add_user openstack
        rabbitmqctl -q set_permissions openstack '.*' '.*' '.*'"""
    machine.run("bash", "-ec", script, stdin=secrets["messages"] + "\n")


def _keystone(machine: Machine, addresses: Addresses, secrets: dict[str, str]) -> None:
    internal = f"http://{addresses.underlay}:{IDENTITY}/v3"
    # The password comes by environment: the command line is everybody's to see.
    script = f"""
        read -r OS_BOOTSTRAP_PASSWORD; export OS_BOOTSTRAP_PASSWORD
        for keys in fernet credential; do
          install -d -o keystone -g keystone -m 700 /etc/keystone/$keys-keys
          [ -e /etc/keystone/$keys-keys/0 ] ||
            keystone-manage ${{keys}}_setup --keystone-user keystone --keystone-group keystone
        done
        runuser -u keystone -- keystone-manage db_sync
        keystone-manage bootstrap --bootstrap-region-id {REGION} --bootstrap-admin-url {internal} \
          --bootstrap-internal-url {internal} --bootstrap-public-url https://{addresses.api}:{IDENTITY}/v3
        mkdir -p /var/log/keystone && chown -R keystone: /var/log/keystone
        systemctl start keystone"""
    machine.run("bash", "-ec", script, stdin=secrets["admin"] + "\n")


def _schemas(machine: Machine, addresses: Addresses, secrets: dict[str, str]) -> None:
    ml2 = "/etc/neutron/plugins/ml2/ml2_conf.ini"
    first = [
        ("neutron", f"neutron-db-manage --config-file /etc/neutron/neutron.conf --config-file {ml2} upgrade head"),
        ("glance", "glance-manage db_sync"),
        ("placement", "placement-manage db sync"),
    ]
    second = [
        ("nova", "nova-manage api_db sync"),
        # Without --database_connection both take theirs from nova.conf: no password on the command line.
        ("nova", "nova-manage cell_v2 map_cell0"),
        ("nova", "nova-manage cell_v2 list_cells | grep -q cell1 || nova-manage cell_v2 create_cell --name cell1"),
        ("nova", "nova-manage db sync"),
        ("cinder", "cinder-manage db sync"),
    ]

    def script(commands: list[tuple[str, str]]) -> str:
        return " && ".join(f"runuser -u {user} -- sh -c {shlex.quote(command)}" for user, command in commands)

    # Two at a time: this is where most of the processor time goes.
    both = f"({script(first)}) & first=$!; {script(second)} && wait $first"
    machine.run("bash", "-c", both)


def _catalogue(addresses: Addresses, secrets: dict[str, str], admin: dict[str, Any]) -> None:
    identity = connect(admin).identity
    service = identity.find_project("service") or identity.create_project(name="service", domain_id="default")
    roles = [identity.find_role("admin"), identity.find_role("service") or identity.create_role(name="service")]
    for name in ACCOUNTS:
        user = identity.find_user(name) or identity.create_user(
            name=name, password=secrets["service"], domain_id="default", default_project_id=service.id
        )
        for role in roles:
            identity.assign_project_role_to_user(service, user, role)
    there = {(entry.service_id, entry.interface) for entry in identity.endpoints()}
    services = {entry.type: entry for entry in identity.services()}
    for endpoint in ENDPOINTS:
        entry = services.get(endpoint.type) or identity.create_service(name=endpoint.name, type=endpoint.type)
        for interface, origin in (
            ("public", f"https://{addresses.api}"),
            ("internal", f"http://{addresses.underlay}"),
            ("admin", f"http://{addresses.underlay}"),
        ):
            if (entry.id, interface) not in there:
                url = f"{origin}:{endpoint.port}{endpoint.path}"
                identity.create_endpoint(service_id=entry.id, interface=interface, url=url, region_id=REGION)


@tenacity.retry(stop=tenacity.stop_after_delay(120), wait=tenacity.wait_fixed(0.5), reraise=True)
def connect(account: dict[str, Any]) -> Connection:
    """Return an authorised connection, once Keystone answers; raises what the last of two minutes' attempts raised."""
    # Half of the time that `lab up` takes when it is up already would go into loading this.
    import openstack

    # It warns at every attempt that Keystone does not answer, which is what is waited for.
    logging.getLogger("keystoneauth").setLevel(logging.ERROR)
    connection = openstack.connect(**account)
    connection.authorize()
    return connection


def discover_hypervisors(machine: Machine, addresses: Addresses) -> None:
    """Map the hypervisors into Nova's cell, unless that was done; their nova-compute must have registered.

    Raises RuntimeError naming those that are not found.
    """
    if _marked(machine, DISCOVERED):
        return
    nova_manage = ("runuser", "-u", "nova", "--", "nova-manage", "cell_v2")
    machine.run(*nova_manage, "discover_hosts")
    listed = machine.run(*nova_manage, "list_hosts")
    lost = [host.name for host in hypervisors(addresses) if host.name not in listed]
    if lost:
        raise RuntimeError(f"Nova has not found the hypervisors {', '.join(lost)}; run `lab up` again")
    _mark(machine, DISCOVERED)


def _marked(machine: Machine, mark: str) -> bool:
    return machine.run("sh", "-c", f"test -e {mark} && echo yes", check=False) == "yes\n"


def _mark(machine: Machine, mark: str) -> None:
    machine.run("sh", "-c", f"mkdir -p $(dirname {mark}) && touch {mark}")
