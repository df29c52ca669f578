"""One cluster's side of OpenStack, as observer, executor and operations ask for it."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from openstack.connection import Connection

from managed_k8s import paths
from managed_k8s.config.settings import Settings
from managed_k8s.openstack import (
    connection,
    credentials,
    infrastructure,
    init_marker,
    power,
    project_binding,
    quota,
    server,
    servers,
)
from managed_k8s.openstack.connection import CloudError, explained, persistently
from managed_k8s.openstack.provision import salt_cloud
from managed_k8s.state import locks
from managed_k8s.state.store import Store

Result = TypeVar("Result")
# Name -> what servers.listing() tells of it.
Servers = Mapping[str, Mapping[str, Any]]

# Seconds to wait for somebody else who works on a server.
_LOCK_WAIT = 60


class Cloud:
    """The cluster's side of OpenStack."""

    def __init__(self, opts: Mapping[str, Any], cluster: str, settings: Settings) -> None:
        self.opts, self.cluster, self.settings = opts, cluster, settings
        self._lock = threading.Lock()

    @functools.cached_property
    def _connected(self) -> Any:

        return connection.connect(self.settings.openstack.cloud, paths.root(self.opts))

    @functools.cached_property
    def _claimed(self) -> Any:

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

    def ask(self, question: Callable[[Connection], Result], repeat: bool = False) -> Result:
        """Return what a function of the connection returns. Raises CloudError.

        repeat: whether it may be asked again when the connection broke; not when that could make something twice.
        """
        with explained():
            connection = self.connection
            return persistently(lambda: question(connection)) if repeat else question(connection)

    def quota_left(self, what: str) -> tuple[int, int] | None:
        """Return how many more of a kind the project may have, and its quota; None when nothing is known to stop it."""
        return self.ask(lambda connection: quota.left(connection, what), repeat=True)

    def servers(self) -> Servers:
        """Return the cluster's servers."""
        found: Servers = self.ask(lambda conn: servers.listing(conn, self.cluster))
        return found

    def is_begun(self) -> bool:
        """Tell whether a control plane was ever begun."""
        return bool(self.ask(lambda conn: init_marker.is_set(conn, self.cluster)))

    def begin(self) -> None:
        """Note that one is begun."""
        self.ask(lambda conn: init_marker.put(conn, self.cluster))

    def public_address(self) -> str | None:
        """Return the floating IP of the API."""
        found: str | None = self.ask(lambda conn: infrastructure.public_address(conn, self.cluster))
        return found

    def correct(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Make network and security groups what the settings say, and keep what they are; return that."""
        with infrastructure.lock(self._store):
            return infrastructure.correct(self.connection, self._store, self.settings, say)

    def is_busy(self, name: str) -> bool:
        """Tell whether somebody makes or removes the server of this name right now."""
        return locks.is_held(self._store, name)

    def make(self, name: str, limit: float) -> None:
        """Make a server of cluster.map, by salt-cloud."""
        salt_cloud.run(self.opts, self._store, name, limit)

    def stop(self, name: str) -> None:
        """Power a server off, and return once it certainly is; one that cannot be powered off is removed."""
        try:
            power.off(self.connection, name)
        except CloudError:
            self.remove(name)

    def start(self, name: str) -> None:
        """Start a server that is off."""
        power.on(self.connection, name)

    def reboot(self, name: str) -> None:
        """Restart a server by pulling its plug."""
        power.cycle(self.connection, name)

    def remove(self, name: str) -> None:
        """Remove a server; one that is gone is fine."""
        with locks.of_server(self._store, name).acquire(timeout=_LOCK_WAIT), explained():
            persistently(lambda: server.destroy(self.connection, name))

    def infrastructure_plan(self) -> list[str]:
        """Return what correct() would make or change. Raises CloudError."""
        return infrastructure.plan(self.connection, self.cluster, self.settings)

    # The cluster's own account

    def credential(self) -> dict[str, Any]:
        """Return the cluster's application credential, made when there is none that fits the settings."""
        return credentials.ensure_application_credential(self.connection, self._store, self.settings.openstack)

    def kept_credential(self) -> dict[str, Any] | None:
        """Return the application credential that is kept, if it fits the settings; the cloud is not asked."""
        kept = self._store.read(credentials.FILE)
        return kept if kept is not None and credentials.suits(kept, self.settings.openstack) else None

    # Removing the cluster, from whichever project clouds.yaml leads to

    def other_project(self) -> Mapping[str, str] | None:
        """Return the project that the cluster was made in, if clouds.yaml leads to another one."""
        with explained():
            return project_binding.is_elsewhere(self.any_project, self._store)

    def destroy_plan(self) -> list[str]:
        """Return what destroy() would remove, in words."""
        return infrastructure.destroy_plan(self.any_project, self.cluster)

    def destroy(self, say: Callable[[str], None]) -> list[str]:
        """Remove all that belongs to the cluster; return the names of its servers. Raises CloudError."""
        with explained():
            found = servers.listing(self.any_project, self.cluster)
        infrastructure.destroy(self.any_project, self.cluster, say)
        return sorted(found)
