"""Looking at a cluster for people: the reconciler's own look, and what else people want to know.

One look, whatever the number of servers: the same requests as the reconciler's, one more job for one master, two
lists of volumes, one TLS handshake. Who does not answer is not waited for long, and does not hide what the others say.
"""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from managed_k8s.backup import service
from managed_k8s.cluster import Cluster
from managed_k8s.config import cron
from managed_k8s.kube import access
from managed_k8s.model import kubernetes
from managed_k8s.model.cluster import Snapshot
from managed_k8s.model.membership import Member
from managed_k8s.names import is_master
from managed_k8s.observe import membership, observer
from managed_k8s.reconcile.reconciler import STATE
from managed_k8s.state import certificates as renewals
from managed_k8s.state import queue
from managed_k8s.state.change_requests import Intent
from managed_k8s.status import certificates, volumes
from managed_k8s.status.facts import CLOUD, ETCD, KUBERNETES, MINIONS, PLAN, VOLUMES, Backup, Certificate, Volume, World

# Seconds that somebody who looks waits for the cloud, or for Kubernetes.
PATIENCE = 20
_MEMBERS_LIMIT = 15

Result = TypeVar("Result")


def look(found: Cluster) -> World:
    """Return what is known of a cluster now. Raises InvalidError when its settings are wrong."""
    return _Gatherer(found).world()


def on_record(found: Cluster) -> World:
    """Return what is on record of a cluster: the reconciler's last look is not repeated, and nobody is asked."""
    return World(
        **_kept(found),
        now=time.time(),
        certificates=tuple(certificates.of_store(found.store)),
        backup=_backup(found, time.time()),
    )


def _kept(found: Cluster) -> dict[str, Any]:
    """Return what settings, map and store say."""
    state = found.store.read(STATE) or {}
    return {
        "cluster": found.name,
        "wanted": tuple(sorted(found.nodes)),
        "version": found.settings.kubernetes.version,
        "virtual_ip": found.settings.openstack.virtual_ip,
        "public_address": (found.store.read("infra.json") or {}).get("public_address"),
        # One that an older tree wrote says too little.
        "state": state if "servers" in state else {},
        "attempts": found.store.read("attempts.json") or {},
        "working": queue.is_held(found.store),
        "paused": Intent(found.store).paused(),
        "renewals": tuple(renewals.problems(found.store, found.settings.maintenance.certificate_days, time.time())),
    }


def _backup(found: Cluster, now: float) -> Backup:
    backups, settings = found.backups, found.settings.backup
    newest = next(iter(backups.listed()), None)
    begun = bool((found.store.read("initialised.json") or {}).get("finished"))
    if not begun and newest is None:
        return Backup()
    enabled = settings.enabled
    return Backup(
        newest=newest.name if newest else None,
        time=newest.time if newest else None,
        problems=(*backups.state()["problems"], *found.volumes.state()["problems"]),
        following=cron.following(settings.schedule, now) if enabled else None,
        drill=cron.following(settings.drill_schedule, now) if enabled and backups.attempts(service.BACKUPS).done
        else None,
    )  # fmt: skip


class _Gatherer:
    def __init__(self, found: Cluster) -> None:
        self.found = found
        self.unknown: dict[str, str] = {}
        self.observer = found.observer()
        self.cloud = _Cloud(self.observer.cloud, self)
        self.jobs = _Jobs(self.observer.jobs, self)
        self.api = _Api(self.observer.api, self)
        # Their answers are kept, for what one of them does not say takes what the others say along.
        parts: Any = self.cloud, self.jobs, self.api
        self.observer.cloud, self.observer.jobs, self.observer.api = parts

    def listen(self, source: str, ask: Callable[[], Result]) -> Result:
        """Return an answer; keep the reason when there is none."""
        try:
            return ask()
        except Exception as error:
            self.unknown[source] = reason(error)
            raise

    def world(self) -> World:
        begun = time.time()
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            attached, api = pool.submit(self._volumes), pool.submit(self._certificate)
            seen = self._look()
            members = self._members()
            kept = _kept(self.found)
            stored = certificates.of_store(self.found.store)
            return World(
                **kept,
                now=begun,
                seconds=round(time.time() - begun, 1),
                servers=self.cloud.listed,
                minions=None if MINIONS in self.unknown else self.observer.minions,
                api=self.api.answers(),
                nodes=self.api.nodes,
                members=members,
                volumes=attached.result(),
                look=seen,
                certificates=(*api.result(), *stored),
                backup=_backup(self.found, begun),
                unknown=dict(self.unknown),
            )

    def _look(self) -> Snapshot | None:
        try:
            return self.observer.look()
        except Exception as error:
            told = [source for source in (CLOUD, MINIONS) if source in self.unknown]
            why = "; ".join(f"the reconciler does nothing until it can ask the {source}" for source in told)
            self.unknown[PLAN] = why or reason(error)
            return None

    def _members(self) -> tuple[Member, ...] | None:
        """Return etcd's members as a master tells of them, one that Kubernetes finds well if there is one."""
        facts, nodes = self.observer.minions, self.api.nodes or {}
        masters = [name for name, known in facts.items() if is_master(name) and known.is_member]
        why = "no master that is one of its members is connected"
        for name in sorted(masters, key=lambda name: (not nodes.get(name, {}).get("ready"), name)):
            try:
                answer = self.jobs.ask([name], observer.MEMBERS, limit=_MEMBERS_LIMIT, expected=[name]).get(name)
            except Exception as error:
                why = reason(error)
                break
            if answer and answer.ok and isinstance(answer.value, list):
                servers = self.cloud.listed or self.found.store.read("inventory.json") or {}
                return tuple(membership.member(told, servers) for told in answer.value)
            why = f"{name}: {_first_line(str(answer.value)) if answer else 'its minion does not answer'}"
        if self._is_begun():
            self.unknown[ETCD] = why
        return None

    def _volumes(self) -> tuple[Volume, ...] | None:
        if not self.api.answers() or not access.is_good(self.found.store):
            return None
        try:
            return within(PATIENCE, lambda: volumes.listing(self.found.kube.connect()))
        except Exception as error:
            self.unknown[VOLUMES] = reason(error)
            return None

    def _certificate(self) -> tuple[Certificate, ...]:
        """Return that of an API server, once there is one."""
        if not self._is_begun():
            return ()
        public = (self.found.store.read("infra.json") or {}).get("public_address")
        return (certificates.of_api(access.addresses(self.found.settings, public)),)

    def _is_begun(self) -> bool:
        return self.found.store.read("initialised.json") is not None


class _Part:
    """A part of the observer that is asked; what this does not know is left to it."""

    def __init__(self, source: Any, gatherer: _Gatherer) -> None:
        self._source, self._gatherer = source, gatherer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


class _Cloud(_Part):
    listed: observer.Servers | None = None

    def servers(self) -> observer.Servers:
        ask: Callable[[], observer.Servers] = self._source.servers
        self.listed = self._gatherer.listen(CLOUD, lambda: within(PATIENCE, ask))
        return self.listed

    def is_begun(self) -> bool:
        return bool(self._gatherer.listen(CLOUD, lambda: within(PATIENCE, self._source.is_begun)))


class _Jobs(_Part):
    def ask(self, minions: Collection[str], function: str, *args: Any, **more: Any) -> Any:
        return self._gatherer.listen(MINIONS, lambda: self._source.ask(minions, function, *args, **more))


class _Api(_Part):
    nodes: Mapping[str, Mapping[str, Any]] | None = None

    def __init__(self, source: Any, gatherer: _Gatherer) -> None:
        super().__init__(source, gatherer)
        self._lock = threading.Lock()
        self._answers: bool | None = None

    def answers(self) -> bool:
        """Tell whether there is one; asked once."""
        with self._lock:
            if self._answers is None:
                self._answers = bool(self._source.answers())
            return self._answers

    def look(self) -> kubernetes.KubernetesState | None:
        """Return what it says; where nothing answers, nobody waits for it."""
        gatherer = self._gatherer
        store = gatherer.found.store
        if not self.answers():
            if store.read("initialised.json"):
                gatherer.unknown[KUBERNETES] = "its API does not answer"
            return None
        found: kubernetes.KubernetesState | None = gatherer.listen(
            KUBERNETES, lambda: within(PATIENCE, self._source.look)
        )
        if found is None:
            good = access.is_good(store)
            why = "its API answers, but not what it is asked" if good else "there is no kubeconfig to ask it with yet"
            gatherer.unknown[KUBERNETES] = why
            return None
        self.nodes = found.nodes
        return found


def within(seconds: float, ask: Callable[[], Result]) -> Result:
    """Return an answer that comes in time. Raises TimeoutError; who is asked then goes on, but keeps nobody waiting."""
    future: concurrent.futures.Future[Result] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(ask())
        except BaseException as error:
            future.set_exception(error)

    # A daemon: the process ends without it.
    threading.Thread(target=run, daemon=True).start()
    try:
        return future.result(seconds)
    except concurrent.futures.TimeoutError:
        if future.done():
            raise
        raise TimeoutError(f"no answer within {seconds:.0f} seconds") from None


def reason(error: BaseException) -> str:
    """Return an error in a line for people."""
    return _first_line(str(error)) or type(error).__name__


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300]
