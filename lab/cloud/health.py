"""Whether OpenStack's services are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tenacity

from lab.cloud.bootstrap import connect
from lab.cloud.configuration import hypervisors
from lab.progress import Step
from lab.settings import Addresses

if TYPE_CHECKING:
    from openstack.connection import Connection

NETWORK_AGENTS = 7  # a linuxbridge agent on the network node and each hypervisor; L3, DHCP, metadata


def missing(cloud: Connection, addresses: Addresses) -> list[str]:
    """Return what does not answer or is not up; a service that raises is named with its error."""
    checks = {"nova": _compute, "neutron": _network, "cinder": _volume, "glance": _image}
    problems: list[str] = []
    for name, check in checks.items():
        try:
            problems += check(cloud, addresses)
        except Exception as error:
            problems.append(f"{name}: {error}")
    return problems


def _compute(cloud: Connection, addresses: Addresses) -> list[str]:
    services = {(service.host, service.binary): service.state for service in cloud.compute.services()}
    return [
        f"nova-compute on {host.name}"
        for host in hypervisors(addresses)
        if services.get((host.name, "nova-compute")) != "up"
    ]


def _network(cloud: Connection, addresses: Addresses) -> list[str]:
    agents = [agent for agent in cloud.network.agents() if agent.is_alive]
    return [] if len(agents) >= NETWORK_AGENTS else [f"neutron's agents: {len(agents)} of {NETWORK_AGENTS}"]


def _volume(cloud: Connection, addresses: Addresses) -> list[str]:
    states = {service.binary: service.state for service in cloud.block_storage.services()}
    wanted = ("cinder-scheduler", "cinder-volume", "cinder-backup")
    return [name for name in wanted if states.get(name) != "up"]


def _image(cloud: Connection, addresses: Addresses) -> list[str]:
    list(cloud.image.images(limit=1))
    return []


def wait(account: dict[str, Any], addresses: Addresses, step: Step, limit: float = 300) -> None:
    """Wait until nothing is missing; raises RuntimeError naming what is, after `limit` seconds."""
    cloud = connect(account)
    problems: list[str] = []

    def attempt() -> list[str]:
        nonlocal problems
        problems = missing(cloud, addresses)
        step.update(problems[0][:60] if problems else "")
        return problems

    try:
        tenacity.Retrying(
            stop=tenacity.stop_after_delay(limit), wait=tenacity.wait_fixed(1), retry=tenacity.retry_if_result(bool)
        )(attempt)
    except tenacity.RetryError as error:
        raise RuntimeError(f"not up after {limit:g} s: {'; '.join(problems)}") from error
