"""What an operator can ask for about whole clusters: are they well written, make their network, test, remove them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import filelock
import psutil

from managed_k8s.backup import service as backups
from managed_k8s.cluster import Cluster
from managed_k8s.config import load
from managed_k8s.config.settings import InvalidError
from managed_k8s.errors import RequestError
from managed_k8s.kube import access
from managed_k8s.minions.jobs import SaltJobs
from managed_k8s.state import immutable_settings, locks, queue
from managed_k8s.volumes import service as volumes

Say = Callable[[str], None]

# Seconds to wait for a cluster's lock: of whoever only looks, and of one that has to be stopped.
_MOMENT, _LOCK_LIMIT = 2, 60


def choose(opts: Mapping[str, Any], cluster: str | None) -> str:
    """Return the cluster that is meant: the one with that name, or the only one. Raises RequestError."""
    names = load.clusters(opts)
    if cluster is None and len(names) == 1:
        return names[0]
    there = f"there are {', '.join(names)}" if names else "there is none: write pillar/clusters/<cluster>.sls first"
    if cluster is None:
        raise RequestError(f"cluster: must be named; {there}")
    if cluster not in names:
        raise RequestError(f"cluster: {cluster!r} has no settings in pillar/clusters; {there}")
    return cluster


def validate(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Check settings, map and profiles of one cluster or all. Raises InvalidError with every problem."""
    names = load.clusters(opts) if cluster is None else [choose(opts, cluster)]
    problems: list[str] = [] if names else ["pillar/clusters: there are no settings; write <cluster>.sls"]
    for name in names:
        with _collecting(problems):
            immutable_settings.checked(opts, name)
    if problems:
        raise InvalidError(dict.fromkeys(problems))
    return {"clusters": names}


@contextlib.contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except InvalidError as error:
        problems += error.problems


def infra(opts: Mapping[str, Any], cluster: str | None, test: bool) -> dict[str, Any]:
    """Make the cluster's network, security groups, virtual IP; with `test` only say what would be made."""
    found = Cluster(opts, choose(opts, cluster))
    if test:
        return {"cluster": found.name, "changes": found.cloud.infrastructure_plan()}
    changes: list[str] = []
    made = found.cloud.correct(changes.append)
    return {"cluster": found.name, "changes": changes, **made}


def smoke(opts: Mapping[str, Any], cluster: str | None, report: Any) -> dict[str, Any]:
    """Run the smoke test now; `report` gets each check as it ends."""
    found = Cluster(opts, choose(opts, cluster))
    if not access.is_good(found.store):
        raise RequestError(
            f"{found.name} has no kubeconfig, or one whose certificate ends within weeks; the reconciler gets one "
            "once the control plane is up: salt-run managed_k8s.status"
        )
    done = found.kube.smoke_checks(report)
    return {
        "cluster": found.name,
        "ok": all(check.ok for check in done),
        "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail, "seconds": c.seconds} for c in done],
    }


def destroy_plan(opts: Mapping[str, Any], cluster: str | None) -> tuple[Cluster, list[str]]:
    """Return what destroy() removes, in words."""
    found = Cluster(opts, choose(opts, cluster))
    kept = f"everything kept in {found.store.folder}: keys, kubeconfig, history (not its backups)"
    elsewhere = found.cloud.other_project()
    if elsewhere:
        kept += (
            f"; it is of project {elsewhere['project_id']} at {elsewhere['auth_url']}, where clouds.yaml does not "
            "lead: what is there stays, and nobody can get into its servers any more"
        )
    return found, [*found.cloud.destroy_plan(), kept]


def destroy(opts: Mapping[str, Any], found: Cluster, say: Say) -> dict[str, Any]:
    """Remove a cluster: servers, infrastructure, credentials, minion keys, and what is kept about it.

    Raises RequestError while another process works on it, and CloudError with what the cloud keeps; then it goes on
    when it is called again.
    """
    # A reconciler that is at work would bring back what is removed; a backup would go on without a cluster.
    with (
        exclusive(opts, found, say),
        backups.lock(found.store),
        volumes.lock(found.store),
        contextlib.ExitStack() as nobody_makes_any,
    ):
        for node in found.nodes:
            nobody_makes_any.enter_context(locks.of_server(found.store, node.id).acquire(timeout=_LOCK_LIMIT))
        servers = sorted({*found.cloud.destroy(say), *(node.id for node in found.nodes)})
        for name in servers:
            SaltJobs(opts).forget(name)
        shutil.rmtree(found.store.folder)
    return {"cluster": found.name, "removed": servers}


@contextlib.contextmanager
def exclusive(opts: Mapping[str, Any], found: Cluster, say: Say) -> Iterator[None]:
    """Hold the cluster's lock; a reconciler of its own process is stopped for it, at whatever it is."""
    lock = queue.lock(found.store)
    try:
        lock.acquire(timeout=_MOMENT)
    except filelock.Timeout:
        for process in queue.reconcilers(str(opts["conf_file"]), found.name):
            say(f"stop the reconciler (process {process.pid})")
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        try:
            lock.acquire(timeout=_LOCK_LIMIT)
        except filelock.Timeout:
            raise RequestError(
                f"{found.name}: another program still works on it after {_LOCK_LIMIT} seconds, perhaps somebody's "
                "salt-run managed_k8s.reconcile: stop that one and try again; see who it is: "
                f"fuser -v {found.store.path(queue.LOCK)}"
            ) from None
    try:
        yield
    finally:
        lock.release()
