"""Running the steps of a rollout."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from managed_k8s import names
from managed_k8s.config.settings import Settings
from managed_k8s.execute.common import Action, StepError, await_idle
from managed_k8s.minions.jobs import JobError, Jobs
from managed_k8s.model.cluster import Snapshot
from managed_k8s.model.rollout import is_older
from managed_k8s.model.steps import KINDS, KUBELET, MAINTAIN, RENEW, UPGRADE
from managed_k8s.state.rollout import Record
from managed_k8s.state.store import Store

_JOB, _RESTART, _CONVERGE, _PACKAGES, _NODE, _BOOT, _ETCD = 90, 180, 900, 1800, 300, 900, 180
_INTERVAL = 3.0


class Kube(Protocol):
    """What is done through the cluster's API."""

    def empty(self, node: str, limit: float, say: Callable[[str], None]) -> None:
        """Cordon a node for its maintenance, and have its pods leave, by force after `limit` seconds."""

    def fill(self, node: str) -> None:
        """Undo that cordon."""

    def await_node(self, node: str, wanted: Mapping[str, str], limit: float) -> None:
        """Wait until a node is Ready, with `version` and another boot than `not_boot`, at most `limit` seconds."""


class Rolling:
    """Rolls changes through the servers of one cluster.

    say: gets (subject, words) of progress within a step.
    """

    def __init__(
        self, store: Store, settings: Settings, jobs: Jobs, kube: Kube, say: Callable[[str, str], None]
    ) -> None:
        self.settings, self.jobs, self.kube, self.say = settings, jobs, kube, say
        self.record = Record(store)

    def actions(self) -> dict[str, Action]:
        """Return what runs a step, by its kind."""
        return {UPGRADE: self._upgrade, KUBELET: self._kubelet, MAINTAIN: self._maintain, RENEW: self._renew}

    def _upgrade(self, name: str, snapshot: Snapshot) -> None:
        rollout = snapshot.observed.rollout
        await_idle(self.jobs, name)
        self.record.begin(name, UPGRADE)
        # The first of all upgrades what belongs to the cluster, too.
        first = is_older(rollout.versions.config, rollout.target)
        self.jobs.run(
            name, "managed_k8s_upgrade.control_plane", rollout.target, first, limit=KINDS[UPGRADE].limit - _ETCD
        )
        self._await_etcd(name)
        self.record.end(name)

    def _kubelet(self, name: str, snapshot: Snapshot) -> None:
        rollout = snapshot.observed.rollout
        await_idle(self.jobs, name)
        runs = rollout.versions.kubelets[name]
        self.record.begin(name, KUBELET)
        if is_older(runs, rollout.target):
            runs = rollout.target
            self._empty(name)
            # From here on the node is made from the new version, whoever applies its states.
            self.record.take_turn(name)
            self.jobs.run(name, "state.apply", limit=_CONVERGE, queue=True)
            self.jobs.run(name, "managed_k8s_upgrade.kubelet", runs, limit=_CONVERGE)
        self.kube.await_node(name, {"version": runs}, _NODE)
        if names.is_master(name):
            self._await_etcd(name)
        self.kube.fill(name)
        self.record.end(name, runs)

    def _maintain(self, name: str, snapshot: Snapshot) -> None:
        asked = self.record.maintenance()[name]
        facts = snapshot.observed.minions.get(name)
        if facts is None:
            raise StepError(f"the minion of {name} does not answer")
        await_idle(self.jobs, name)
        self.record.begin(name, MAINTAIN)
        if facts.boot == asked["boot"]:
            self._reboot(name, facts.boot, asked["packages"])
        if names.is_gateway(name):
            # The next gateway says good-bye only once this one can take over.
            self._until(lambda: self._serves(name), _NODE, f"{name} does not serve again")
        else:
            self._bring_back(name, asked["boot"])
        self.record.maintained(name)

    def _reboot(self, name: str, boot: str | None, packages: bool) -> None:
        if names.is_gateway(name):
            # It says good-bye to the other gateways, which take over at once.
            self.jobs.run(name, "service.stop", "keepalived", limit=_JOB)
        else:
            self._empty(name)
        if packages:
            self.jobs.run(name, "managed_k8s_upgrade.packages", limit=_PACKAGES)
        self.jobs.run(name, "managed_k8s_upgrade.reboot", limit=_RESTART)
        try:
            self._until(
                lambda: self._boot(name) not in (None, boot), _BOOT, f"{name} does not come back from its reboot"
            )
        except StepError:
            # It is ill now, and not away on purpose: it is healed like any other, and gone on with when it is well.
            self.record.end(name)
            raise

    def _bring_back(self, name: str, boot: str | None) -> None:
        if names.is_master(name):
            # What a reboot that was interrupted left aside.
            self.jobs.run(name, "managed_k8s_control_plane.start", limit=_JOB)
        self.kube.await_node(name, {"not_boot": boot} if boot else {}, _NODE)
        if names.is_master(name):
            self._await_etcd(name)
        self.kube.fill(name)

    def _renew(self, name: str, snapshot: Snapshot) -> None:
        await_idle(self.jobs, name)
        self.jobs.run(name, "managed_k8s_pki.renew", limit=KINDS[RENEW].limit - _JOB)

    # What steps share

    def _empty(self, name: str) -> None:
        limit = self.settings.maintenance.drain_seconds
        self.kube.empty(name, limit, lambda words: self.say(name, words))

    def _await_etcd(self, name: str) -> None:
        self._until(lambda: self._etcd_is_whole(name), _ETCD, f"not every member of etcd is healthy, as {name} sees it")

    def _etcd_is_whole(self, name: str) -> bool:
        try:
            members = self.jobs.run(name, "managed_k8s_etcd.members", limit=_JOB)
        except JobError:
            return False
        return bool(members) and all(member["healthy"] for member in members)

    def _serves(self, name: str) -> bool:
        answer = self.jobs.ask([name], "managed_k8s_facts.ailments", limit=10, expected=[name]).get(name)
        return answer is not None and answer.ok and answer.value == []

    def _boot(self, name: str) -> str | None:
        answer = self.jobs.ask([name], "managed_k8s_facts.boot", limit=10, expected=[name]).get(name)
        return str(answer.value) if answer and answer.ok else None

    def _until(self, is_done: Callable[[], bool], seconds: float, problem: str) -> None:
        end = time.monotonic() + seconds
        while not is_done():
            if time.monotonic() >= end:
                raise StepError(f"{problem}, after {seconds:.0f} seconds")
            time.sleep(_INTERVAL)
