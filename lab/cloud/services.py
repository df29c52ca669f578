"""The OpenStack services of the lab: one table from which units, endpoints and health checks are made."""

from __future__ import annotations

import dataclasses

MESSAGES, DATABASE, MEMCACHED = 5672, 3306, 11211
IDENTITY, IMAGE, PLACEMENT, COMPUTE, METADATA, NETWORK, VOLUME = 5000, 9292, 8778, 8774, 8775, 9696, 8776

NEUTRON = "--config-file=/etc/neutron/neutron.conf"
ML2 = f"{NEUTRON} --config-file=/etc/neutron/plugins/ml2/ml2_conf.ini"
BRIDGE = f"{ML2} --config-file=/etc/neutron/plugins/ml2/linuxbridge_agent.ini"


@dataclasses.dataclass(frozen=True)
class Service:
    """One unit.

    name: of the unit, and what `lab fault stop-service` takes.
    user: it runs as.
    command: its command line; for a WSGI program, its path.
    needs: ports on the underlay that answer before it starts: an agent whose first call goes unanswered
        sits in RPC time-outs for minutes.
    threads: of the uwsgi that runs the WSGI program; 0: no WSGI program.  The services that eventlet
        monkey-patches deadlock in uwsgi with more than one thread ("greenlet.error: cannot switch to a different
        thread").
    per_hypervisor: a template unit, started once per hypervisor; %i is its name.
    in_hypervisor: runs in the hypervisor's network namespace.
    """

    name: str
    user: str
    command: str
    needs: tuple[int, ...] = ()
    port: int = 0
    threads: int = 0
    per_hypervisor: bool = False
    in_hypervisor: bool = False


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """A service of the catalogue: type and path as OpenStack's service types authority has them."""

    name: str
    type: str
    port: int
    path: str = ""


ENDPOINTS = (
    Endpoint("keystone", "identity", IDENTITY, "/v3"),
    Endpoint("glance", "image", IMAGE),
    Endpoint("placement", "placement", PLACEMENT),
    Endpoint("nova", "compute", COMPUTE, "/v2.1"),
    Endpoint("neutron", "network", NETWORK),
    Endpoint("cinder", "block-storage", VOLUME, "/v3/%(project_id)s"),
)

SERVICES = (
    Service("keystone", "keystone", "/usr/bin/keystone-wsgi-public", (DATABASE,), IDENTITY, threads=4),
    Service(
        "glance-api",
        "glance",
        "/usr/bin/glance-api --config-file=/etc/glance/glance-api.conf",
        (DATABASE, IDENTITY),
        IMAGE,
    ),
    Service("placement-api", "placement", "/usr/bin/placement-api", (DATABASE, IDENTITY), PLACEMENT, threads=4),
    Service("nova-api", "nova", "/usr/bin/nova-api-wsgi", (DATABASE, MESSAGES), COMPUTE, threads=1),
    Service("nova-api-metadata", "nova", "/usr/bin/nova-metadata-wsgi", (DATABASE, MESSAGES), METADATA, threads=1),
    Service("nova-conductor", "nova", "/usr/bin/nova-conductor", (DATABASE, MESSAGES)),
    Service("nova-scheduler", "nova", "/usr/bin/nova-scheduler", (DATABASE, MESSAGES)),
    Service(
        "neutron-server",
        "neutron",
        f"/usr/bin/neutron-server {ML2}",
        (DATABASE, MESSAGES),
        NETWORK,
    ),
    Service("cinder-api", "cinder", "/usr/bin/cinder-wsgi", (DATABASE, MESSAGES), VOLUME, threads=1),
    Service("cinder-scheduler", "cinder", "/usr/bin/cinder-scheduler", (DATABASE, MESSAGES)),
    Service("cinder-volume", "cinder", "/usr/bin/cinder-volume", (DATABASE, MESSAGES)),
    Service("cinder-backup", "cinder", "/usr/bin/cinder-backup", (DATABASE, MESSAGES)),
    Service(
        "neutron-linuxbridge-agent",
        "neutron",
        f"/usr/bin/neutron-linuxbridge-agent {BRIDGE} --config-file=/etc/neutron/plugins/ml2/network_node.ini",
        (MESSAGES, NETWORK),
    ),
    Service(
        "neutron-l3-agent",
        "neutron",
        f"/usr/bin/neutron-l3-agent {NEUTRON} --config-file=/etc/neutron/l3_agent.ini",
        (MESSAGES, NETWORK),
    ),
    Service(
        "neutron-dhcp-agent",
        "neutron",
        f"/usr/bin/neutron-dhcp-agent {NEUTRON} --config-file=/etc/neutron/dhcp_agent.ini",
        (MESSAGES, NETWORK),
    ),
    Service(
        "neutron-metadata-agent",
        "neutron",
        f"/usr/bin/neutron-metadata-agent {NEUTRON} --config-file=/etc/neutron/metadata_agent.ini",
        (MESSAGES, NETWORK),
    ),
    Service(
        "neutron-linuxbridge-agent@",
        "neutron",
        f"/usr/bin/neutron-linuxbridge-agent {BRIDGE} --config-file=/etc/hypervisors/%i-neutron.conf",
        (MESSAGES, NETWORK),
        per_hypervisor=True,
        in_hypervisor=True,
    ),
    Service(
        "nova-compute@",
        "root",
        "/usr/bin/nova-compute --config-file=/etc/nova/nova.conf --config-file=/etc/hypervisors/%i-nova.conf",
        (MESSAGES, PLACEMENT, NETWORK, COMPUTE),
        per_hypervisor=True,
    ),
)


def units(hypervisors: list[str]) -> list[str]:
    """Return the names of all units, the templates once per hypervisor."""
    return [
        f"{service.name}{instance}.service"
        for service in SERVICES
        for instance in (hypervisors if service.per_hypervisor else [""])
    ]
