"""Running the steps that heal servers; each is noted before it is done, so that what is interrupted counts, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from managed_k8s.execute.common import Action
from managed_k8s.minions.jobs import Jobs
from managed_k8s.model.cluster import Snapshot
from managed_k8s.model.steps import KINDS, REBOOT, REPLACE, RESTART, START
from managed_k8s.state import healing
from managed_k8s.state.change_requests import Intent
from managed_k8s.state.store import Store


class Cloud(Protocol):
    """What is asked of OpenStack."""

    def start(self, name: str) -> None:
        """Start a server that is off, and return once Nova says that it runs."""

    def reboot(self, name: str) -> None:
        """Restart a server by pulling its plug, and return once Nova says that it runs."""


class Healing:
    """Heals the servers of one cluster, one step at a time."""

    def __init__(self, store: Store, cloud: Cloud, jobs: Jobs) -> None:
        self.store, self.cloud, self.jobs = store, cloud, jobs

    def actions(self) -> dict[str, Action]:
        """Return what runs a step, by its kind."""
        return {
            RESTART: self._restart,
            START: lambda name, snapshot: self._in_the_cloud(START, self.cloud.start, name),
            REBOOT: lambda name, snapshot: self._in_the_cloud(REBOOT, self.cloud.reboot, name),
            REPLACE: self._replace,
        }

    def _server(self, name: str) -> str:
        return str((self.store.read("inventory.json") or {})[name]["id"])

    def _restart(self, name: str, snapshot: Snapshot) -> None:
        healing.tried(self.store, name, self._server(name), RESTART)
        self.jobs.run(name, "managed_k8s_facts.restart_failed_services", limit=KINDS[RESTART].limit)

    def _in_the_cloud(self, what: str, action: Callable[[str], None], name: str) -> None:
        at = healing.tried(self.store, name, self._server(name), what)
        try:
            action(name)
        except Exception:
            healing.refused(self.store, name, at)
            raise

    def _replace(self, name: str, snapshot: Snapshot) -> None:
        """Have it removed and made anew; the next look plans how."""
        server = self._server(name)
        healing.tried(self.store, name, server, REPLACE)
        why = next((patient.why for patient in snapshot.observed.health.patients if patient.name == name), "it is ill")
        Intent(self.store).condemn({name: server}, why)
