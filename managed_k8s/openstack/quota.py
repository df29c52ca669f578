"""The project's quota against what is still to be made: better one message before than half a cluster."""

from __future__ import annotations

import collections
import logging
from collections.abc import Iterable, Mapping
from typing import Any

import openstack.exceptions
from openstack.connection import Connection

log = logging.getLogger(__name__)

Needs = collections.Counter[str]
# How much there may be and how much there is; -1 as the former means any number.
Limits = dict[str, tuple[int | None, int | None]]

# Kind -> the field of Neutron's quota.
_NETWORK = {
    "network": "networks", "subnet": "subnets", "router": "routers", "port": "ports", "floating IP": "floating_ips",
    "security group": "security_groups", "security group rule": "security_group_rules",
}  # fmt: skip
_VOLUMES = ("volume", "GB of volumes", "volume backup")
_COMPUTE = {"server": "instances", "core": "total_cores", "MB of memory": "total_ram", "server group": "server_groups"}


def of_servers(conn: Connection, profiles: Iterable[Mapping[str, Any]]) -> Needs:
    """Return what servers take, by kind.

    profiles: valid keys, once for each server.
    """
    needs: Needs = collections.Counter()
    flavors: dict[str, Any] = {}
    for profile in profiles:
        name = profile["flavor"]
        flavor = flavors[name] if name in flavors else flavors.setdefault(name, conn.compute.find_flavor(name))
        needs.update({"server": 1, "core": flavor.vcpus or 0, "MB of memory": flavor.ram or 0})
        needs.update({"port": len(profile["networks"]), "floating IP": int("floating_ip" in profile)})
        if "boot_volume" in profile:
            needs.update({"volume": 1, "GB of volumes": profile["boot_volume"]["size"]})
    return +needs


def shortages(conn: Connection, needs: Needs) -> list[str]:
    """Return a sentence for every kind that the project's quota is too small for."""
    limits = _limits(conn, needs)
    found = []
    for kind, needed in sorted((+needs).items()):
        limit, used = limits.get(kind, (None, None))
        if limit is not None and used is not None and 0 <= limit < used + needed:
            found.append(
                f"quota: {needed} more of kind {kind} are needed, and {max(limit - used, 0)} of {limit} are left: "
                "have the project's quota enlarged, or remove what is not needed"
            )
    return found


def left(conn: Connection, kind: str) -> tuple[int, int] | None:
    """Return how many more of a kind the project may have, and its quota; None when that is any number, or not told."""
    limit, used = _limits(conn, collections.Counter({kind: 1})).get(kind, (None, None))
    return None if limit is None or used is None or limit < 0 else (max(limit - used, 0), limit)


def _limits(conn: Connection, needs: Needs) -> Limits:
    limits: Limits = {}
    # What a cloud does not tell is found out when something is made.
    for kinds, ask in ((_COMPUTE, _compute), (_NETWORK, _network), (_VOLUMES, _volumes)):
        if not any(needs[kind] for kind in kinds):
            continue
        try:
            limits |= ask(conn)
        except (openstack.exceptions.ForbiddenException, openstack.exceptions.NotFoundException) as error:
            log.info("The quota is not known: %s", error)
    return limits


def _compute(conn: Connection) -> Limits:
    found = conn.compute.get_limits().absolute
    return {kind: (getattr(found, field), getattr(found, f"{field}_used")) for kind, field in _COMPUTE.items()}


def _network(conn: Connection) -> Limits:
    found = conn.network.get_quota(conn.current_project_id, details=True)
    tables = {kind: getattr(found, field) or {} for kind, field in _NETWORK.items()}
    return {kind: (table.get("limit"), _taken(table)) for kind, table in tables.items()}


def _taken(table: Mapping[str, Any]) -> int | None:
    used = table.get("used")
    return None if used is None else int(used) + int(table.get("reserved") or 0)


def _volumes(conn: Connection) -> Limits:
    found = conn.block_storage.get_limits().absolute
    return {
        "volume": (found.max_total_volumes, found.total_volumes_used),
        "GB of volumes": (found.max_total_volume_gigabytes, found.total_gigabytes_used),
        "volume backup": (found.max_total_backups, found.total_backups_used),
    }
