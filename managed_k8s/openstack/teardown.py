"""Removing a cluster from the cloud: what carries its mark, in an order that OpenStack accepts, and nothing else."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import openstack.exceptions
from openstack.connection import Connection

from managed_k8s import names
from managed_k8s.openstack.connection import CloudError

Say = Callable[[str], None]

# Seconds until everything of a kind has to be gone; a server shuts down gracefully for up to a minute.
GONE_TIMEOUT = 600
_INTERVAL = 1.0
# Seconds for which a refusal is no final one: volumes are being detached, backups go before those they build on.
_PATIENCE = 30.0
_ROUTER_PORTS = ("network:router_interface", "network:ha_router_replicated_interface")


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of object: how those of the cluster are found and deleted."""

    title: str
    find: Callable[[], Iterable[Any]]
    delete: Callable[[Any], Any]


def kinds(conn: Connection, cluster: str) -> list[Kind]:
    """Return all kinds, in the order in which they have to go."""
    compute, network, storage, identity = conn.compute, conn.network, conn.block_storage, conn.identity

    def tagged(find: Callable[[], Iterable[Any]]) -> Callable[[], list[Any]]:
        return lambda: [item for item in find() if names.is_of(item, cluster)]

    def marked(find: Callable[[], Iterable[Any]], key: str) -> Callable[[], list[Any]]:
        return lambda: [item for item in find() if (item.metadata or {}).get(key) == cluster]

    def named(find: Callable[[], Iterable[Any]], *names: str) -> Callable[[], list[Any]]:
        return lambda: [item for item in find() if item.name in names]

    groups = [names.group(cluster, role) for role in names.ROLES]
    secret, user = names.secret(cluster), conn.current_user_id
    return [
        Kind("server", marked(compute.servers, names.CLUSTER), compute.delete_server),
        Kind("backup", marked(storage.backups, names.CSI_CLUSTER), storage.delete_backup),
        Kind("snapshot", marked(storage.snapshots, names.CSI_CLUSTER), storage.delete_snapshot),
        Kind("volume", marked(storage.volumes, names.CSI_CLUSTER), storage.delete_volume),
        Kind("floating IP", tagged(network.ips), network.delete_ip),
        Kind("port", tagged(network.ports), network.delete_port),
        Kind("router", tagged(network.routers), lambda router: _delete_router(conn, router)),
        Kind("network", tagged(network.networks), network.delete_network),
        Kind("security group", tagged(network.security_groups), network.delete_security_group),
        Kind("server group", named(compute.server_groups, *groups), compute.delete_server_group),
        Kind("key pair", named(compute.keypairs, secret), compute.delete_keypair),
        Kind(
            "application credential",
            named(lambda: identity.application_credentials(user), secret, names.trial(cluster)),
            lambda credential: identity.delete_application_credential(user, credential),
        ),
    ]


def _delete_router(conn: Connection, router: Any) -> None:
    for port in conn.network.ports(device_id=router.id):
        if port.device_owner.startswith(_ROUTER_PORTS):
            conn.network.remove_interface_from_router(router, port_id=port.id)
    conn.network.delete_router(router)


def plan(conn: Connection, cluster: str) -> list[str]:
    """Return what run() would remove, like `server demo-master-1`."""
    every = kinds(conn, cluster)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        found = pool.map(lambda kind: list(kind.find()), every)
    return [_words(kind, item) for kind, items in zip(every, found, strict=True) for item in items]


def run(conn: Connection, cluster: str, say: Say, timeout: float = GONE_TIMEOUT) -> None:
    """Remove everything; go on with other kinds when something cannot be removed.

    timeout: seconds until everything of a kind has to be gone. Raises CloudError with all that is left and why.
    """
    problems: list[str] = []
    for kind in kinds(conn, cluster):
        problems += _remove(kind, say, timeout)
    if problems:
        raise CloudError("\n".join(f"- {problem}" for problem in problems))


def _remove(kind: Kind, say: Say, timeout: float) -> list[str]:
    """Remove all of a kind and wait until they are gone; return a sentence for each that stays."""
    started, asked = time.monotonic(), set[str]()
    refusals: dict[str, str] = {}
    while left := list(kind.find()):
        waited = time.monotonic() - started
        if waited > timeout or (waited > min(_PATIENCE, timeout) and all(item.id in refusals for item in left)):
            return [f"{_words(kind, item)} stays: {refusals.get(item.id) or _state(item)}" for item in left]
        new = [item for item in left if item.id not in asked or item.id in refusals]
        refusals = _delete_all(kind, new, say)
        if asked.issuperset(item.id for item in left):
            time.sleep(_INTERVAL)
        asked |= {item.id for item in new}
    return []


def _state(item: Any) -> str:
    return f"it was asked to go and is {getattr(item, 'status', None) or 'still there'}; remove it by hand"


def _delete_all(kind: Kind, items: list[Any], say: Say) -> dict[str, str]:
    """Ask for the removal of all at once; return why, by id, for each that the cloud refuses to remove."""

    def delete(item: Any) -> str | None:
        say(f"remove {_words(kind, item)}")
        try:
            kind.delete(item)
        except openstack.exceptions.NotFoundException:
            return None
        except openstack.exceptions.HttpException as error:
            return str(error.details or error)
        return None

    with concurrent.futures.ThreadPoolExecutor(max_workers=8) as pool:
        answers = list(pool.map(delete, items))
    return {item.id: answer for item, answer in zip(items, answers, strict=True) if answer}


def _words(kind: Kind, item: Any) -> str:
    return f"{kind.title} {getattr(item, 'floating_ip_address', None) or item.name or item.id}"
