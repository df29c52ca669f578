"""One server of a map, from its profile to a running minion."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import filelock
import tenacity
from openstack.connection import Connection

from managed_k8s import checkout, inputs
from managed_k8s.cloud import credential, deploy, infra, profile, server, servers
from managed_k8s.cloud.connection import CloudError
from managed_k8s.settings import InvalidError
from managed_k8s.store import Store

Say = Callable[[str], None]

# All servers of a map are made at once; the first one's look at the infrastructure serves the others.
_FRESH = 120
_GATEWAY_TIMEOUT = 300
SSH_TIMEOUT = 300


def prepare(conn: Connection, opts: Mapping[str, Any], name: str, vm: Mapping[str, Any]) -> None:
    """Check everything, then make the cluster's infrastructure, before the first server is made.

    Raises settings.InvalidError with every problem of map, profiles and settings; CloudError.
    """
    problems = profile.problems(vm["profile"], vm["raw"])
    if not problems:
        problems = profile.missing(conn, vm["profile"], vm["raw"])
    if problems:
        raise InvalidError(problems)
    cluster = vm["raw"].get("cluster")
    if cluster is None:
        return
    store = Store.of(opts, cluster)
    with filelock.FileLock(store.path(".infra.lock")):
        stamp = store.read("infra.json") or {}
        settings = inputs.checked(opts, cluster)
        digest = checkout.digest(settings["openstack"])
        if stamp.get("digest") != digest or time.time() - stamp.get("time", 0) > _FRESH:
            made = infra.ensure(conn, cluster, settings)
            store.write("infra.json", {"digest": digest, "time": time.time(), **made})


def create(conn: Connection, opts: Mapping[str, Any], vm: Mapping[str, Any], say: Say) -> Any:
    """Return the server: made, reachable by SSH, with its minion installed.

    vm: name, raw (the profile), keys (private, public), minion (its configuration), source (of Salt).
    Raises CloudError or deploy.DeployError.
    """
    raw, name = vm["raw"], vm["name"]
    store = Store.of(opts, raw.get("cluster", "servers"))
    key_name = raw.get("ssh_key_name") or credential.ensure_ssh_key(conn, store)
    made = server.create(conn, name, raw, key_name, say)
    if vm["deploy"]:
        try:
            _deploy(conn, opts, store, made, vm, say)
        except BaseException:
            server.destroy(conn, name)
            raise
    return made


def _deploy(
    conn: Connection, opts: Mapping[str, Any], store: Store, made: Any, vm: Mapping[str, Any], say: Say
) -> None:
    raw, found = vm["raw"], servers.addresses(made)
    gateway = _gateway(conn, raw["ssh_gateway"]) if "ssh_gateway" in raw else None
    address = found["address"] if gateway else found["floating_ip"] or found["address"]
    if address is None:
        raise CloudError(f"server {made.name} has no address")
    key = Path(raw.get("ssh_key_file") or store.path(credential.SSH_KEY))
    # Addresses are given to other servers once one is gone, with other host keys: known hosts are kept by server.
    known_hosts = store.path(f"known_hosts/{made.id}")
    ssh = deploy.Ssh(raw.get("ssh_username", "debian"), address, key, known_hosts, gateway)
    say("deploying")
    deploy.install(ssh, files(opts, vm), raw.get("ssh_timeout", SSH_TIMEOUT))


def files(opts: Mapping[str, Any], vm: Mapping[str, Any]) -> dict[str, str]:
    """Return what is sent to a new server: name -> text."""
    root = checkout.root(opts)
    source = vm["source"]
    return {
        "install": (root / "cloud.deploy.d" / "managed-k8s.sh").read_text(),
        "source": "".join(f"{key}={value}\n" for key, value in source.items()),
        "requirements.lock": (root / "lab" / "mirror" / "servers.lock").read_text() if not source else "",
        "minion.pem": vm["keys"]["private"],
        "minion.pub": vm["keys"]["public"],
        "minion_master.pub": Path(opts["pki_dir"], "master.pub").read_text(),
        "minion.conf": vm["minion"],
    }


def _gateway(conn: Connection, prefix: str) -> str:
    """Return the floating IP of a running server whose name begins so."""
    for attempt in tenacity.Retrying(
        stop=tenacity.stop_after_delay(_GATEWAY_TIMEOUT),
        wait=tenacity.wait_fixed(1),
        retry=tenacity.retry_if_exception_type(CloudError),
        reraise=True,
    ):
        with attempt:
            for candidate in conn.compute.servers(details=True, name=f"^{prefix}-"):
                address = servers.addresses(candidate)["floating_ip"]
                if candidate.status == "ACTIVE" and address:
                    return address
            raise CloudError(f"ssh_gateway: no server {prefix}-... with a floating IP is running")
    raise AssertionError("unreachable")
