"""One server of a map, from its profile to a running minion."""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import salt.utils.cloud
from openstack.connection import Connection

from managed_k8s import names, paths
from managed_k8s.config import profiles
from managed_k8s.config.settings import InvalidError
from managed_k8s.openstack import credentials, infrastructure, project_binding, server, servers, ssh
from managed_k8s.openstack.connection import CloudError, explained, persistently
from managed_k8s.openstack.provision import preflight
from managed_k8s.state import immutable_settings, locks
from managed_k8s.state.store import Store

log = logging.getLogger(__name__)

Say = Callable[[str], None]

SSH_TIMEOUT = 300
RUN = "run.json"
# In place of a cluster's name, of servers that are of none.
LONERS = "servers"


def prepare(conn: Connection, opts: Mapping[str, Any], vm: Mapping[str, Any]) -> None:
    """Check everything, then make the cluster's infrastructure, before a server is made.

    Both are done once for all servers of a run of salt-cloud.
    Raises settings.InvalidError with every problem of map, profiles and settings; CloudError.
    """
    request = preflight.Request(vm["name"], vm["profile"], vm["raw"])
    store = Store.of(opts, request.cluster or LONERS)
    with infrastructure.lock(store):
        run = Run.of(store)
        if profiles.problems(request.where, request.keys) or request.digest not in run.checked:
            preflight.check(opts, lambda: conn, [request])
        if request.cluster and not run.has_infrastructure:
            settings = immutable_settings.checked(opts, request.cluster)
            with explained():
                project_binding.claim(conn, store)
            infrastructure.correct(conn, store, settings, log.info)
            dataclasses.replace(run, has_infrastructure=True).keep(store)


@dataclasses.dataclass(frozen=True)
class Run:
    """What the processes of one salt-cloud command tell each other about a cluster.

    id: of the command. checked: digests of what need not be checked again.
    """

    id: list[float]
    checked: list[str]
    has_infrastructure: bool = False

    @classmethod
    def of(cls, store: Store) -> Run:
        """Return what this command noted; nothing when only another one did."""
        kept = store.read(RUN)
        return cls(**kept) if kept and kept["id"] == run_id() else cls(run_id(), [])

    def keep(self, store: Store) -> None:
        """Note it for the other processes."""
        store.write(RUN, dataclasses.asdict(self))


def run_id() -> list[float]:
    """Return what tells this salt-cloud command, whose processes are children of the first, from all others."""
    first = multiprocessing.parent_process()
    pid = first.pid if first and first.pid else os.getpid()
    try:
        return [pid, psutil.Process(pid).create_time()]
    except psutil.NoSuchProcess:
        # It was killed and its children go on.
        return [pid, 0]


def create(conn: Connection, opts: Mapping[str, Any], vm: Mapping[str, Any], say: Say) -> Any:
    """Return the server: made, reachable by SSH, with its minion installed.

    What this run or an interrupted one made is removed when that fails; a server that was complete is not touched.
    vm: name, profile, raw (the profile's keys), keys (private, public), minion (its configuration), source (of Salt),
    requirements (file for pip, or None).
    Raises CloudError or deploy.DeployError.
    """
    name = vm["name"]
    store = Store.of(opts, vm["raw"].get("cluster", LONERS))
    # Two runs of salt-cloud at once do not both work on it.
    with locks.of_server(store, name), explained():
        present = persistently(lambda: server.find(conn, name))
        keep = present is not None and server.was_complete(present)
        try:
            return _complete(conn, opts, store, vm, say)
        except BaseException as error:
            if not keep:
                _remove(conn, name, error)
            raise


def _complete(conn: Connection, opts: Mapping[str, Any], store: Store, vm: Mapping[str, Any], say: Say) -> Any:
    raw = vm["raw"]
    key_name = raw.get("ssh_key_name") or persistently(lambda: credentials.ensure_ssh_key(conn, store))
    made = persistently(lambda: server.create(conn, vm["name"], raw, key_name, say))
    if vm["deploy"]:
        _deploy(conn, opts, store, made, vm, say)
    return persistently(lambda: server.complete(conn, made))


def _remove(conn: Connection, name: str, reason: BaseException) -> None:
    try:
        with explained():
            persistently(lambda: server.destroy(conn, name))
    except CloudError as error:
        raise CloudError(f"{reason}\nWhat was made could not be removed: {error}") from reason


def _deploy(
    conn: Connection, opts: Mapping[str, Any], store: Store, made: Any, vm: Mapping[str, Any], say: Say
) -> None:
    raw, found = vm["raw"], servers.addresses(made)
    address = found["address"] if "ssh_gateway" in raw else found["floating_ip"] or found["address"]
    if address is None:
        raise CloudError(f"server {made.name} has no address")

    def login(to: Any, address: str, jump: ssh.Ssh | None = None) -> ssh.Ssh:
        return ssh.login(store, raw, to.id, address, jump)

    def routes() -> list[ssh.Ssh]:
        if "ssh_gateway" not in raw:
            return [login(made, address)]
        jumps = [login(*gateway) for gateway in _gateways(conn, raw["ssh_gateway"], raw.get("cluster"))]
        return [login(made, address, jump) for jump in jumps]

    say("deploying")
    # Another run of salt-cloud may have put its own key in place since this one did; who holds the lock is right.
    salt.utils.cloud.accept_key(opts["pki_dir"], vm["keys"]["public"], vm["name"])
    ssh.install(routes, files(opts, vm), raw.get("ssh_timeout", SSH_TIMEOUT))


def files(opts: Mapping[str, Any], vm: Mapping[str, Any]) -> dict[str, str]:
    """Return what is sent to a new server: name -> text."""
    root = paths.root(opts)
    source = vm["source"]
    return {
        "install": (root / "cloud.deploy.d" / "managed-k8s.sh").read_text(),
        "source": "".join(f"{key}={shlex.quote(value)}\n" for key, value in source.items()),
        "requirements.lock": _requirements(root, vm) if "ARCHIVE" not in source else "",
        "minion.pem": vm["keys"]["private"],
        "minion.pub": vm["keys"]["public"],
        "minion_master.pub": Path(opts["pki_dir"], "master.pub").read_text(),
        "minion.conf": vm["minion"],
    }


def _requirements(root: Path, vm: Mapping[str, Any]) -> str:
    """Return what pip installs, with hashes: the operator's file, or what the checkout pins."""
    file = Path(vm["requirements"] or root / "cloud.deploy.d" / "servers.lock")
    if not file.is_file():
        raise InvalidError([f"minion_requirements: there is no file {file} on the Salt master"])
    return file.read_text()


def _gateways(conn: Connection, prefix: str, cluster: str | None) -> list[tuple[Any, str]]:
    """Return the cluster's running servers whose name begins so, with their floating IPs."""
    candidates = conn.compute.servers(details=True, name=f"^{prefix}-")
    found = [
        (server, servers.addresses(server)["floating_ip"])
        for server in candidates
        if server.status == "ACTIVE" and (server.metadata or {}).get(names.CLUSTER) == cluster
    ]
    return [(server, address) for server, address in found if address]
