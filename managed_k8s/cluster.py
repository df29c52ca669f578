"""The real cloud, Salt and Kubernetes behind what the reconciler looks at and acts through."""

from __future__ import annotations

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from managed_k8s import names, paths
from managed_k8s.artifacts import etcd_programs, mirror
from managed_k8s.backup.service import Backups
from managed_k8s.config import load
from managed_k8s.config.settings import Settings
from managed_k8s.execute.executor import Executor
from managed_k8s.kube import access, node_annotations
from managed_k8s.minions.jobs import SaltJobs
from managed_k8s.observe import observer
from managed_k8s.observe.gateway_disks import Disks
from managed_k8s.reconcile import reconciler as reconciling
from managed_k8s.state import versions
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from managed_k8s.volumes.cinder import Cinder
from managed_k8s.volumes.service import VolumeBackups

# Seconds to wait for somebody else who works on a server.
_LOCK_WAIT = 60


class LiveCloud:
    """The cluster's side of OpenStack."""

    def __init__(self, opts: Mapping[str, Any], cluster: str, settings: Settings) -> None:
        self.opts, self.cluster, self.settings = opts, cluster, settings
        self._lock = threading.Lock()

    @functools.cached_property
    def _connected(self) -> Any:
        from managed_k8s.openstack import connection

        return connection.connect(self.settings["openstack"]["cloud"], paths.root(self.opts))

    @functools.cached_property
    def _claimed(self) -> Any:
        from managed_k8s.openstack import project_binding
        from managed_k8s.openstack.connection import explained

        with explained():
            project_binding.claim(self._connected, Store.of(self.opts, self.cluster))
        return self._connected

    @property
    def _store(self) -> Store:
        return Store.of(self.opts, self.cluster)

    @property
    def connection(self) -> Any:
        """The connection to the cluster's project, made when it is first needed. Raises CloudError."""
        with self._lock:
            return self._claimed

    @property
    def any_project(self) -> Any:
        """The connection to whichever project clouds.yaml leads to. Raises CloudError."""
        with self._lock:
            return self._connected

    def _ask(self, question: Callable[[Any], Any]) -> Any:
        from managed_k8s.openstack.connection import explained

        with explained():
            return question(self.connection)

    def servers(self) -> observer.Servers:
        """Return the cluster's servers."""
        from managed_k8s.openstack import servers

        found: observer.Servers = self._ask(lambda conn: servers.listing(conn, self.cluster))
        return found

    def is_begun(self) -> bool:
        """Tell whether a control plane was ever begun."""
        from managed_k8s.openstack import init_marker

        return bool(self._ask(lambda conn: init_marker.is_set(conn, self.cluster)))

    def begin(self) -> None:
        """Note that one is begun."""
        from managed_k8s.openstack import init_marker

        self._ask(lambda conn: init_marker.put(conn, self.cluster))

    def public_address(self) -> str | None:
        """Return the floating IP of the API."""
        from managed_k8s.openstack import infrastructure

        found: str | None = self._ask(lambda conn: infrastructure.public_address(conn, self.cluster))
        return found

    def correct(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Make network and security groups what the settings say, and keep what they are; return that."""
        from managed_k8s.openstack import infrastructure

        with infrastructure.lock(self._store):
            return infrastructure.correct(self.connection, self._store, self.settings, say)

    def is_busy(self, name: str) -> bool:
        """Tell whether somebody makes or removes the server of this name right now."""
        from managed_k8s.state import locks

        return locks.is_held(self._store, name)

    def make(self, name: str, limit: float) -> None:
        """Make a server of cluster.map, by salt-cloud."""
        from managed_k8s.openstack.provision import salt_cloud

        salt_cloud.run(self.opts, self._store, name, limit)

    def stop(self, name: str) -> None:
        """Power a server off, and return once it certainly is; one that cannot be powered off is removed."""
        from managed_k8s.openstack import power
        from managed_k8s.openstack.connection import CloudError

        try:
            power.off(self.connection, name)
        except CloudError:
            self.remove(name)

    def start(self, name: str) -> None:
        """Start a server that is off."""
        from managed_k8s.openstack import power

        power.on(self.connection, name)

    def reboot(self, name: str) -> None:
        """Restart a server by pulling its plug."""
        from managed_k8s.openstack import power

        power.cycle(self.connection, name)

    def remove(self, name: str) -> None:
        """Remove a server; one that is gone is fine."""
        from managed_k8s.openstack import server
        from managed_k8s.openstack.connection import explained, persistently
        from managed_k8s.state import locks

        with locks.of_server(self._store, name).acquire(timeout=_LOCK_WAIT), explained():
            persistently(lambda: server.destroy(self.connection, name))


class LiveKube:
    """The cluster's API, from the Salt master."""

    def __init__(self, cluster: str, settings: Settings, store: Store, cloud: LiveCloud) -> None:
        self.cluster, self.settings, self.store, self.cloud = cluster, settings, store, cloud
        self._addons: dict[str, Any] = {}

    def connect(self) -> Any:
        """Return a client; made anew each time, as kubeconfigs are replaced."""
        from managed_k8s.kube import client

        return client.connect(access.kubeconfig(self.store))

    # Looking

    def answers(self) -> bool:
        """Tell whether there is an API server at one of the cluster's addresses."""
        public = (self.store.read("infra.json") or {}).get("public_address")
        return any(access.answers(address) for address in access.addresses(self.settings, public))

    def look(self) -> observer.Kubernetes | None:
        """Return what the API says; None without a kubeconfig or an answer."""
        import urllib3.exceptions
        from kubernetes.client.exceptions import ApiException

        if not access.is_good(self.store):
            return None
        try:
            return self._look(self.connect())
        except (ApiException, urllib3.exceptions.HTTPError, OSError):
            return None

    def _look(self, api: Any) -> observer.Kubernetes:
        from managed_k8s.kube import csr
        from managed_k8s.kube import nodes as kube_nodes
        from managed_k8s.kube import versions as upgrading

        nodes, leases = kube_nodes.nodes(api), kube_nodes.leases(api)
        nodes = {name: {**node, "lease": leases.get(name)} for name, node in nodes.items()}
        servers = self.store.read("inventory.json") or {}
        csr.approve_serving(api, {name: s["address"] for name, s in servers.items() if s["address"]})
        pods = kube_nodes.control_plane(api)
        running = upgrading.versions(api, nodes, pods)
        # First of all: it says which add-ons there should be.
        versions.remember(self.store, running)
        return observer.Kubernetes(
            ready={name: bool(node["ready"]) for name, node in nodes.items()},
            etcd=self._etcd_is_healthy(api, nodes, pods),
            addons=self._has_addons(api),
            nodes=nodes,
            versions=running,
        )

    def _etcd_is_healthy(self, api: Any, nodes: Mapping[str, Mapping[str, Any]], pods: Iterable[Any]) -> bool:
        """Tell whether every master has a healthy member; a lost node's is found ill in time."""
        from managed_k8s.kube import nodes as kube_nodes

        # The pod of a node that was removed is still listed for a minute.
        members = {name: ok for name, ok in kube_nodes.etcd_members(pods).items() if name in nodes}
        masters = {name for name, node in nodes.items() if node["role"] == names.MASTER}
        complete = members.keys() >= masters and bool(members)
        return complete and all(members.values()) and kube_nodes.healthy(api, "/readyz/etcd")

    def _has_addons(self, api: Any) -> bool:
        from managed_k8s.kube import addons
        from managed_k8s.openstack import credentials

        kept = self.store.read(credentials.FILE)
        if kept is None or not credentials.suits(kept, self.settings["openstack"]):
            return False
        return not addons.missing(api, self._objects(kept))

    def _objects(self, credential: Mapping[str, Any]) -> Any:
        """Return the add-ons' objects of the version that the control plane has; the mirror is asked once for each."""
        from managed_k8s.kube import addons

        settings = versions.of_addons(self.settings, self.store)
        version = settings["kubernetes"]["version"]
        if version not in self._addons:
            found = mirror.artifacts(self.store, settings)
            cloud = addons.CloudAccess.of(self.cluster, credential)
            self._addons[version] = addons.objects(settings, found["versions"], addons.fetch(found), cloud)
        return self._addons[version]

    # Acting

    def create_token(self, seconds: int) -> str:
        """Return a new bootstrap token."""
        from managed_k8s.kube import bootstrap_token

        return bootstrap_token.create(self.connect(), seconds)

    def delete_token(self, token: str) -> None:
        """Remove a bootstrap token."""
        from managed_k8s.kube import bootstrap_token

        bootstrap_token.delete(self.connect(), token)

    def withdraw_certificates(self) -> None:
        """Remove what a master was given to join with."""
        from managed_k8s.kube import bootstrap_token

        bootstrap_token.withdraw_certificates(self.connect())

    def mint(self, sign: Callable[[str], str], server: str, ca: str) -> str:
        """Return a kubeconfig whose key was made here."""
        from managed_k8s.kube import kubeconfig

        return kubeconfig.mint(sign, server, ca, self.cluster)

    def drain(self, node: str, limit: float, say: Callable[[str], None]) -> None:
        """Cordon a node, have its pods leave, by force after a time, and note that they did."""
        from managed_k8s.kube import drain

        api = self.connect()
        drain.cordon(api, node, node_annotations.REMOVAL)
        drain.evict(api, node, limit, say, force=True)
        drain.mark_drained(api, node)

    def free(self, node: str, say: Callable[[str], None]) -> None:
        """Let go of what a node holds that certainly does not run, and note that."""
        from managed_k8s.kube import drain

        api = self.connect()
        drain.free(api, node, say)
        drain.mark_drained(api, node)

    def uncordon(self, node: str) -> None:
        """Undo a removal's cordon."""
        from managed_k8s.kube import drain

        drain.uncordon(self.connect(), node, node_annotations.REMOVAL)

    def empty(self, node: str, limit: float, say: Callable[[str], None]) -> None:
        """Cordon a node for its maintenance, and have its pods leave, by force after a time."""
        from managed_k8s.kube import versions as kube_versions

        kube_versions.empty(self.connect(), node, limit, say)

    def fill(self, node: str) -> None:
        """Undo that cordon."""
        from managed_k8s.kube import versions as kube_versions

        kube_versions.fill(self.connect(), node)

    def await_node(self, node: str, wanted: Mapping[str, str], limit: float) -> None:
        """Wait until a node is Ready and as it should be."""
        from managed_k8s.kube import versions as kube_versions

        kube_versions.await_node(self.connect, node, wanted, limit)

    def delete_node(self, node: str) -> None:
        """Delete a Node; one that is not there is fine."""
        from managed_k8s.kube import drain

        drain.delete_node(self.connect(), node)

    def apply_addons(self, say: Callable[[str], None]) -> None:
        """Apply the add-ons with a credential of the cluster's own."""
        from managed_k8s.kube import addons

        self._addons.clear()
        found = self._credential()
        addons.apply(self.connect(), self._objects(found), say)

    def resources(self) -> dict[str, str]:
        """Return the files for ~/.managed_k8s: name -> text, nothing secret."""
        from managed_k8s.kube import resources

        return resources.files(self.settings, self._objects(self._credential()))

    def _credential(self) -> dict[str, Any]:
        from managed_k8s.openstack import credentials

        return credentials.ensure_application_credential(self.cloud.connection, self.store, self.settings["openstack"])

    def smoke(self, say: Callable[[str], None]) -> list[str]:
        """Run the smoke test; return what failed."""
        from managed_k8s.kube import smoke

        def report(check: Any) -> None:
            say(f"{check.name}: {'ok' if check.ok else check.detail}")

        checks = smoke.run(self.connect(), self.settings, report)
        return [f"{check.name}: {check.detail}" for check in checks if not check.ok]


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Everything that belongs to one cluster, checked. Raises InvalidError when it is made."""

    opts: Mapping[str, Any]
    name: str

    @functools.cached_property
    def written(self) -> Settings:
        """The settings as their file has them, with defaults. Raises InvalidError."""
        return load.checked(self.opts, self.name)

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings, with the version of Kubernetes that the cluster has or is upgraded to. Raises InvalidError."""
        return versions.wanted(self.written, self.store)

    @functools.cached_property
    def store(self) -> Store:
        """What the Salt master keeps about it."""
        return Store.of(self.opts, self.name)

    @functools.cached_property
    def cloud(self) -> LiveCloud:
        """Its side of OpenStack."""
        return LiveCloud(self.opts, self.name, self.settings)

    @functools.cached_property
    def kube(self) -> LiveKube:
        """Its API."""
        return LiveKube(self.name, self.settings, self.store, self.cloud)

    @functools.cached_property
    def nodes(self) -> list[names.Node]:
        """Its servers in cluster.map."""
        return [node for name in load.servers(self.opts, self.name) if (node := names.parse(name))]

    @functools.cached_property
    def backups(self) -> Backups:
        """Its backups."""
        return Backups(
            self.opts,
            self.store,
            Store.of_backups(self.opts, self.name),
            self.settings,
            SaltJobs(self.opts),
            History(self.store, self.opts),
            lambda: etcd_programs.programs(self.store, self.settings),
        )

    @functools.cached_property
    def volumes(self) -> VolumeBackups:
        """The backups of its volumes."""
        return VolumeBackups(
            self.store,
            self.settings,
            Cinder(lambda: self.cloud.connection, self.name),
            self._kubernetes,
            History(self.store, self.opts),
        )

    def anew(self) -> Cluster:
        """Return it with the settings and the version of Kubernetes that are on record now."""
        return dataclasses.replace(self)

    def _kubernetes(self) -> Any:
        from managed_k8s.volumes import kubernetes

        return kubernetes.connected(self.kube.connect)

    def observer(self) -> observer.Observer:
        """Return what looks at it."""
        root: Path = paths.root(self.opts)
        jobs, disks = SaltJobs(self.opts), Disks(self.opts, self.store)
        made = observer.Observer(self.store, self.settings, self.nodes, root, self.cloud, jobs, self.kube, disks)
        made.written = self.written["kubernetes"]["version"]
        return made

    def reconciler(self) -> reconciling.Reconciler:
        """Return what brings it to what it should be."""
        history = History(self.store, self.opts)
        # Progress within a step is for whoever reads along, not for the event bus.
        notes = History(self.store)
        executor = Executor(
            self.store,
            self.settings,
            self.cloud,
            SaltJobs(self.opts),
            self.kube,
            lambda subject, words: notes.add(subject, "progress", words),
        )
        return reconciling.Reconciler(self.store, self.observer(), executor, history)


def reconcile(opts: Mapping[str, Any], cluster: str) -> reconciling.Outcome | None:
    """Bring a cluster to what it should be, as far as that is possible now; None when another process is at it.

    Raises InvalidError when settings, map or profiles are wrong: nothing is done then.
    """
    store = Store.of(opts, cluster)
    # Made anew each time: settings and map may have changed with the note.
    return reconciling.reconcile(store, lambda: Cluster(opts, cluster).reconciler())
