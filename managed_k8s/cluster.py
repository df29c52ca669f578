"""The composition root: everything that belongs to one cluster, made from its settings and its store."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from managed_k8s import names, paths
from managed_k8s.artifacts import etcd_programs
from managed_k8s.backup.service import Backups
from managed_k8s.config import load
from managed_k8s.config.settings import Settings
from managed_k8s.execute.executor import Executor
from managed_k8s.minions.jobs import SaltJobs
from managed_k8s.model.cluster import Snapshot
from managed_k8s.observe.gateway_disks import Disks
from managed_k8s.observe.observer import Observer
from managed_k8s.reconcile.reconciler import Reconciler
from managed_k8s.state import immutable_settings, versions
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from managed_k8s.volumes.cinder import Cinder
from managed_k8s.volumes.service import VolumeBackups

if TYPE_CHECKING:
    from managed_k8s.kube.api import KubernetesApi
    from managed_k8s.openstack.client import Cloud


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Everything that belongs to one cluster, checked. Raises InvalidError when it is made."""

    opts: Mapping[str, Any]
    name: str

    @functools.cached_property
    def written(self) -> Settings:
        """The settings as their file has them, with defaults. Raises InvalidError."""
        return immutable_settings.checked(self.opts, self.name)

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings, with the version of Kubernetes that the cluster has or is upgraded to. Raises InvalidError."""
        return versions.wanted(self.written, self.store)

    @functools.cached_property
    def store(self) -> Store:
        """What the Salt master keeps about it."""
        return Store.of(self.opts, self.name)

    @functools.cached_property
    def cloud(self) -> Cloud:
        """Its side of OpenStack."""
        # Here and below: what only looks into the store starts in half the time without the clouds' and Kubernetes'
        # libraries.
        from managed_k8s.openstack.client import Cloud

        return Cloud(self.opts, self.name, self.settings)

    @functools.cached_property
    def kube(self) -> KubernetesApi:
        """Its API."""
        from managed_k8s.kube.api import KubernetesApi

        return KubernetesApi(
            self.name,
            self.settings,
            self.store,
            credential=lambda: self.cloud.credential(),
            kept_credential=lambda: self.cloud.kept_credential(),
        )

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
            Cinder(lambda: self.cloud, self.name),
            self._kubernetes,
            History(self.store, self.opts),
        )

    def anew(self) -> Cluster:
        """Return it with the settings and the version of Kubernetes that are on record now."""
        return dataclasses.replace(self)

    def _kubernetes(self) -> Any:
        from managed_k8s.volumes import kubernetes

        return kubernetes.connected(self.kube.connect)

    def observer(self, ask_members: bool = False) -> Observer:
        """Return what looks at it.

        ask_members: whether etcd's members are asked for though no master comes or goes.
        """
        return Observer(
            self.store,
            self.settings,
            self.nodes,
            paths.root(self.opts),
            self.cloud,
            SaltJobs(self.opts),
            self.kube,
            Disks(self.opts, self.store),
            written=self.written.kubernetes.version,
            ask_members=ask_members,
        )

    def executor(self) -> Executor:
        """Return what runs its steps."""
        # Progress within a step is for whoever reads along, not for the event bus.
        notes = History(self.store)
        return Executor(
            self.store,
            self.settings,
            self.cloud,
            SaltJobs(self.opts),
            self.kube,
            lambda subject, words: notes.add(subject, "progress", words),
        )

    def reconciler(
        self, history: History | None = None, is_enough: Callable[[Snapshot], bool] = lambda look: False
    ) -> Reconciler:
        """Return what brings it to what it should be; to be run while its lock is held.

        history: where it notes what it does; by default the cluster's. is_enough: whether it may end before all is
        done.
        """
        history = history or History(self.store, self.opts)
        return Reconciler(self.store, self.observer(), self.executor(), history, is_enough=is_enough)
