"""What an operator can ask for, as plain functions; the runner is their face."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import psutil

from managed_k8s import names
from managed_k8s.artifacts import mirror
from managed_k8s.backup import service
from managed_k8s.cluster import Cluster
from managed_k8s.cluster import reconcile as run_reconciler
from managed_k8s.config import cluster_map, load
from managed_k8s.config.settings import InvalidError
from managed_k8s.kube import access, node_annotations
from managed_k8s.minions.jobs import JobError, SaltJobs
from managed_k8s.model.steps import Step
from managed_k8s.openstack import ssh_config
from managed_k8s.openstack.ssh import SSH_KEY
from managed_k8s.plan import plan as make_plan
from managed_k8s.plan import scaling
from managed_k8s.plan import waiting as make_waiting
from managed_k8s.reconcile.reconciler import STATE, failed_look
from managed_k8s.restore.plan import RestoreError
from managed_k8s.state import queue
from managed_k8s.state.change_requests import LEFT_MAP, Intent
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from managed_k8s.status.live import Scene
from managed_k8s.status.status import words
from managed_k8s.volumes import service as volume_service
from managed_k8s.volumes.restore_plan import VolumeError

# A cluster that was as it should be is looked at again after this long without an event.
SETTLED_LOOK = 300
# Seconds to wait for a cluster's lock: of whoever only looks, and of one that has to be stopped.
_MOMENT, _LOCK_LIMIT = 2, 60


class VerbError(RuntimeError):
    """What was asked for cannot be done; the message says what to do."""


def errors() -> tuple[type[Exception], ...]:
    """Return the errors whose message is meant for people."""
    import kubernetes.config
    import openstack.exceptions
    import salt.exceptions

    from managed_k8s.openstack.connection import CloudError

    # Of the operating system: files that this user may not read, a disk that is full.
    return (
        VerbError, InvalidError, cluster_map.MapError, mirror.MirrorError, JobError, CloudError, OSError,
        openstack.exceptions.SDKException, kubernetes.config.ConfigException, salt.exceptions.SaltException,
        *service.ERRORS, RestoreError, VolumeError,
    )  # fmt: skip


def choose(opts: Mapping[str, Any], cluster: str | None) -> str:
    """Return the cluster that is meant: the one with that name, or the only one. Raises VerbError."""
    names = load.clusters(opts)
    if cluster is None and len(names) == 1:
        return names[0]
    there = f"there are {', '.join(names)}" if names else "there is none: write pillar/clusters/<cluster>.sls first"
    if cluster is None:
        raise VerbError(f"cluster: must be named; {there}")
    if cluster not in names:
        raise VerbError(f"cluster: {cluster!r} has no settings in pillar/clusters; {there}")
    return cluster


def validate(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Check settings, map and profiles of one cluster or all. Raises InvalidError with every problem."""
    names = load.clusters(opts) if cluster is None else [choose(opts, cluster)]
    problems: list[str] = [] if names else ["pillar/clusters: there are no settings; write <cluster>.sls"]
    for name in names:
        with _collecting(problems):
            load.checked(opts, name)
    if problems:
        raise InvalidError(dict.fromkeys(problems))
    return {"clusters": names}


@contextlib.contextmanager
def _collecting(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except InvalidError as error:
        problems += error.problems


@dataclasses.dataclass(frozen=True)
class Situation:
    """What is to be done for a cluster, and what it waits for."""

    cluster: str
    steps: list[Step]
    waiting: list[str]

    @property
    def ready(self) -> bool:
        """Tell whether the cluster is as it should be."""
        return not self.steps and not self.waiting


def look(opts: Mapping[str, Any], cluster: str | None) -> Situation:
    """Look at a cluster, without changing it. Raises InvalidError and what cannot be reached."""
    found = Cluster(opts, choose(opts, cluster))
    seen = found.observer().look()
    desired, observed = seen.desired, seen.observed
    return Situation(found.name, make_plan(desired, observed), make_waiting(desired, observed))


def leaving(opts: Mapping[str, Any], cluster: str | None) -> tuple[str, dict[str, str | None]]:
    """Return the cluster, and its servers that are not in cluster.map any more: name -> id."""
    found = Cluster(opts, choose(opts, cluster))
    wanted, intent = {node.id for node in found.nodes}, Intent(found.store)
    servers: dict[str, str | None] = {name: str(server["id"]) for name, server in found.cloud.servers().items()}
    known = servers | {name: None for name in intent.servers() if name not in servers}
    condemned = intent.condemned()
    gone = {name: server for name, server in known.items() if name not in wanted and name not in condemned}
    return found.name, gone


def reconcile(
    opts: Mapping[str, Any], cluster: str | None, remove: Mapping[str, str | None] | None = None
) -> dict[str, Any]:
    """Bring a cluster to what it should be, here and now, or leave it to the reconciler that is at it.

    Servers of the map that are missing are made. remove: those that left the map and may be removed, from leaving().
    """
    name = choose(opts, cluster)
    load.checked(opts, name)
    store = Store.of(opts, name)
    _note_wishes(opts, name, store, remove or {})
    queue.Inbox(store).put(name, "an operator asked")
    outcome = run_reconciler(opts, name)
    if outcome is None:
        return {"cluster": name, "busy": True, "ready": False, "steps": [], "waiting": []}
    steps = [words(step) for step in outcome.steps]
    return {"cluster": name, "busy": False, "ready": outcome.ready, "steps": steps, "waiting": outcome.waiting}


def _note_wishes(opts: Mapping[str, Any], name: str, store: Store, remove: Mapping[str, str | None]) -> None:
    found, intent = Cluster(opts, name), Intent(store)
    wanted, servers = {node.id for node in found.nodes}, found.cloud.servers()
    intent.ask([node for node in wanted if node not in servers])
    if remove:
        intent.condemn(remove, LEFT_MAP)
    # What is in the map again stays.
    back = [node for node, entry in intent.condemned().items() if entry["why"] == LEFT_MAP and node in wanted]
    if back:
        intent.pardon(back)


def _node(opts: Mapping[str, Any], node: str) -> Cluster:
    """Return the cluster of a node. Raises VerbError when the name is no node's."""
    parsed = names.parse(node) if isinstance(node, str) else None
    if parsed is None:
        raise VerbError(f"node: {node!r} is no node's name; write it like demo-worker-1")
    return Cluster(opts, choose(opts, parsed.cluster))


def replace(opts: Mapping[str, Any], node: str, reason: str) -> dict[str, Any]:
    """Have a server removed, as gently as it can be, and made anew, in the background.

    Raises VerbError when the cluster would lose its quorum or its last gateway by that.
    """
    found = _node(opts, node)
    if node not in {each.id for each in found.nodes}:
        raise VerbError(f"node: {node} is not in cluster.map, so it would not come back; to remove it: reconcile")
    observer = found.observer()
    observer.asks_for_members = True
    seen, servers = observer.look(), found.cloud.servers()
    if node not in servers:
        Intent(found.store).ask([node])
    else:
        refused = scaling.refusal(seen.desired, seen.observed, node)
        if refused:
            raise VerbError(f"{node} is not replaced: {refused}")
        Intent(found.store).condemn({node: servers[node]["id"]}, reason)
    return enqueue(opts, node, f"replace: {reason}") | {"node": node}


def drain(opts: Mapping[str, Any], node: str, say: Any) -> dict[str, Any]:
    """Cordon a node and have its pods leave. Raises VerbError when some did not in time: they may not, or cannot."""
    from managed_k8s.kube import drain as draining

    found = _node(opts, node)
    api = _api(found, node)
    ours = draining.cordon(api, node, node_annotations.OPERATOR)
    try:
        draining.evict(api, node, found.settings["maintenance"]["drain_seconds"], say, force=False)
    except draining.DrainError as error:
        raise VerbError(f"{error}\n{node} stays cordoned; undo it: salt-run managed_k8s.uncordon {node}") from None
    return {"node": node, "cordoned": ours}


def uncordon(opts: Mapping[str, Any], node: str) -> dict[str, Any]:
    """Undo drain(). Raises VerbError when somebody else cordoned the node."""
    from managed_k8s.kube import drain as draining
    from managed_k8s.kube import nodes as kube_nodes

    found = _node(opts, node)
    api = _api(found, node)
    state = kube_nodes.nodes(api)[node]
    if not state["unschedulable"]:
        return {"node": node, "changed": False}
    if state["cordoned_by"] == node_annotations.REMOVAL:
        raise VerbError(f"{node} is being removed; put it back into cluster.map to keep it")
    if state["cordoned_by"] == node_annotations.MAINTENANCE:
        raise VerbError(f"{node} is being upgraded or rebooted, and takes pods again by itself after that")
    if state["cordoned_by"] != node_annotations.OPERATOR:
        raise VerbError(f"{node} was not cordoned by managed_k8s.drain; if you know why: kubectl uncordon {node}")
    return {"node": node, "changed": draining.uncordon(api, node, node_annotations.OPERATOR)}


def _api(found: Cluster, node: str) -> Any:
    """Return a client of the API, of which this is a node. Raises VerbError."""
    from managed_k8s.kube import nodes as kube_nodes

    if not access.is_good(found.store):
        raise VerbError(f"{found.name} has no kubeconfig yet; see salt-run managed_k8s.status")
    api = found.kube.connect()
    names = kube_nodes.nodes(api)
    if node not in names:
        raise VerbError(f"node: {node} is no node of {found.name}; there are {', '.join(sorted(names)) or 'none'}")
    return api


def pause(opts: Mapping[str, Any], cluster: str | None, reason: str) -> dict[str, Any]:
    """Have the reconciler begin nothing until resume(); what runs already ends."""
    name = choose(opts, cluster)
    store = Store.of(opts, name)
    Intent(store).pause(reason)
    History(store, opts).add("cluster", "paused", reason)
    return {"cluster": name, "paused": Intent(store).paused()}


def resume(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Undo pause(), and have the cluster looked at."""
    name = choose(opts, cluster)
    store = Store.of(opts, name)
    was = Intent(store).paused()
    Intent(store).resume()
    if was:
        History(store, opts).add("cluster", "resumed", f"it was {was}")
    enqueue(opts, name, "resumed")
    return {"cluster": name, "changed": bool(was)}


def enqueue(opts: Mapping[str, Any], subject: object, reason: object) -> dict[str, Any]:
    """Have a cluster looked at.

    subject: one of its minion ids, or its name. It comes from events: what names no cluster with settings is ignored.
    """
    node = names.parse(subject) if isinstance(subject, str) else None
    name = node.cluster if node else subject
    if not isinstance(name, str) or name not in load.clusters(opts):
        return {"cluster": None}
    queue.enqueue(opts, Store.of(opts, name), str(subject), str(reason))
    return {"cluster": name}


def sweep(opts: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
    """Have every cluster looked at that is not known to be as it should be, or was not looked at for minutes.

    One without servers or wishes is left alone: nothing was asked for yet.
    """
    now = time.time() if now is None else now
    looked = []
    for name in load.clusters(opts):
        store = Store.of(opts, name)
        state = store.read(STATE)
        started = state is not None or store.read("infra.json") is not None or not queue.Inbox(store).is_empty()
        settled = state is not None and state["ready"] and now - state["time"] < SETTLED_LOOK
        settled = settled and failed_look(store, History(store)) is None
        if started and not settled and not queue.is_held(store):
            queue.enqueue(opts, store, name, "sweep")
            looked.append(name)
    return {"clusters": looked}


def wait(
    opts: Mapping[str, Any], cluster: str | None, seconds: float, poll: float = 1
) -> Iterator[dict[str, Any] | None]:
    """Yield what happens to a cluster until it is as it should be; None when nothing happens for a moment.

    Raises VerbError after `seconds`, with what is still missing.
    """
    name = choose(opts, cluster)
    load.checked(opts, name)
    store = Store.of(opts, name)
    begun = time.time()
    entries = History(store).follow()
    enqueue(opts, name, "an operator waits")
    while True:
        entry = next(entries)
        yield entry
        if entry is not None:
            continue
        state = store.read(STATE) or {}
        if state.get("ready") and state["time"] >= begun and not queue.is_held(store):
            return
        if time.time() - begun > seconds:
            raise VerbError(
                f"{name} is not ready after {seconds:.0f} seconds. Still missing:\n"
                + "\n".join(f"- {sentence}" for sentence in _missing(state, History(store)))
            )
        time.sleep(poll)


def _missing(state: Mapping[str, Any], history: History) -> list[str]:
    missing = [*state.get("waiting", []), *(step["description"] for step in state.get("steps", []))]
    return missing or [entry["reason"] for entry in history.last(1)] or ["the first look has not ended"]


def scene(opts: Mapping[str, Any], cluster: str | None, entries: Iterable[Mapping[str, Any]]) -> Scene:
    """Return what a picture of the cluster shows, from what the reconciler left in the store; nobody else is asked.

    entries: the newest of the history, oldest first.
    """
    store = Store.of(opts, choose(opts, cluster))
    state, attempts = store.read(STATE) or {}, store.read("attempts.json") or {}
    if "servers" not in state:
        # A reconciler of an older tree wrote it.
        state = {}
    return Scene(store.cluster, state, attempts, [*entries], queue.is_held(store), time.time())


def reach(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Return how to reach a cluster's API and servers; writes a configuration for ssh. Raises VerbError."""
    name = choose(opts, cluster)
    store = Store.of(opts, name)
    path = kubeconfig(opts, name, None)["path"]
    config = ssh_configuration(opts, name)
    return {"cluster": name, **ssh_config.commands(Path(path), config, store.read("inventory.json") or {})}


def ssh_configuration(opts: Mapping[str, Any], name: str) -> Path:
    """Write a configuration for ssh, in which every server of a cluster has its name; return its path."""
    store = Store.of(opts, name)
    servers = store.read("inventory.json") or {}
    text = ssh_config.ssh_config(
        servers, load.keys(opts, name), store.path(SSH_KEY), store.path("known_hosts/x").parent
    )
    store.write_text("ssh_config", text)
    return store.path("ssh_config")


def kubeconfig(opts: Mapping[str, Any], cluster: str | None, path: str | None) -> dict[str, Any]:
    """Write the cluster's kubeconfig to a file that only its owner can read; return where it is."""
    name = choose(opts, cluster)
    store = Store.of(opts, name)
    text = store.read_text(access.KUBECONFIG)
    if text is None:
        raise VerbError(f"{name} has no kubeconfig yet: its control plane is not up; see salt-run managed_k8s.status")
    if path is None:
        return {"path": str(access.kubeconfig(store))}
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise VerbError(f"path: folder {target.parent} does not exist; make it, or choose another")
    part = target.with_name(f".{target.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.rename(target)
    return {"path": str(target)}


def infra(opts: Mapping[str, Any], cluster: str | None, test: bool) -> dict[str, Any]:
    """Make the cluster's network, security groups, virtual IP; with `test` only say what would be made."""
    from managed_k8s.openstack import infrastructure

    found = Cluster(opts, choose(opts, cluster))
    if test:
        return {
            "cluster": found.name,
            "changes": infrastructure.plan(found.cloud.connection, found.name, found.settings),
        }
    changes: list[str] = []
    made = found.cloud.correct(changes.append)
    return {"cluster": found.name, "changes": changes, **made}


def smoke(opts: Mapping[str, Any], cluster: str | None, report: Any) -> dict[str, Any]:
    """Run the smoke test now; `report` gets each check as it ends."""
    from managed_k8s.kube import smoke as checks

    found = Cluster(opts, choose(opts, cluster))
    settings = found.settings
    if not access.is_good(found.store):
        raise VerbError(
            f"{found.name} has no kubeconfig, or one whose certificate ends within weeks; the reconciler gets one "
            "once the control plane is up: salt-run managed_k8s.status"
        )
    done = checks.run(found.kube.connect(), settings, report)
    return {
        "cluster": found.name,
        "ok": all(check.ok for check in done),
        "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail, "seconds": c.seconds} for c in done],
    }


def doomed(opts: Mapping[str, Any], cluster: str | None) -> tuple[Cluster, list[str]]:
    """Return what destroy() removes, in words."""
    found = Cluster(opts, choose(opts, cluster))
    from managed_k8s.openstack import infrastructure, project_binding
    from managed_k8s.openstack.connection import explained

    conn = found.cloud.any_project
    with explained():
        elsewhere = project_binding.is_elsewhere(conn, found.store)
    kept = f"everything kept in {found.store.folder}: keys, kubeconfig, history (not its backups)"
    if elsewhere:
        kept += (
            f"; it is of project {elsewhere['project_id']} at {elsewhere['auth_url']}, where clouds.yaml does not "
            "lead: what is there stays, and nobody can get into its servers any more"
        )
    return found, [*infrastructure.destroy_plan(conn, found.name), kept]


def destroy(opts: Mapping[str, Any], found: Cluster, say: Any) -> dict[str, Any]:
    """Remove a cluster: servers, infrastructure, credentials, minion keys, and what is kept about it.

    Raises VerbError while another process works on it, and CloudError with what the cloud keeps; then it goes on when
    it is called again.
    """
    import shutil

    from managed_k8s.openstack import infrastructure
    from managed_k8s.openstack.connection import explained
    from managed_k8s.openstack.servers import listing
    from managed_k8s.state import locks

    # A reconciler that is at work would bring back what is removed; a backup would go on without a cluster.
    with (
        alone(opts, found, say),
        service.lock(found.store),
        volume_service.lock(found.store),
        contextlib.ExitStack() as nobody_makes_any,
    ):
        for node in found.nodes:
            nobody_makes_any.enter_context(locks.of_server(found.store, node.id).acquire(timeout=_LOCK_LIMIT))
        conn = found.cloud.any_project
        with explained():
            servers = listing(conn, found.name)
        infrastructure.destroy(conn, found.name, say)
        names = sorted({*servers, *(node.id for node in found.nodes)})
        for name in names:
            SaltJobs(opts).forget(name)
        shutil.rmtree(found.store.folder)
    return {"cluster": found.name, "removed": names}


@contextlib.contextmanager
def alone(opts: Mapping[str, Any], found: Cluster, say: Any) -> Iterator[None]:
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
            raise VerbError(
                f"{found.name}: another program still works on it after {_LOCK_LIMIT} seconds, perhaps somebody's "
                "salt-run managed_k8s.reconcile: stop that one and try again; see who it is: "
                f"fuser -v {found.store.path(queue.LOCK)}"
            ) from None
    try:
        yield
    finally:
        lock.release()
