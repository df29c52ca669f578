"""Bringing one cluster back: looking, and doing a plan's steps; an interrupted one is gone on with."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import tenacity
import yaml

from managed_k8s.backup import service, upload
from managed_k8s.backup.digest import Seal
from managed_k8s.backup.record import Record
from managed_k8s.backup.repository import BorgError
from managed_k8s.backup.service import Backups
from managed_k8s.kube import access
from managed_k8s.minions.jobs import Answer, Jobs, is_unknown_function, sync_modules
from managed_k8s.model.cluster import Snapshot
from managed_k8s.model.steps import ACCESS, Step
from managed_k8s.names import Node
from managed_k8s.reconcile.reconciler import Reconciler
from managed_k8s.restore import plan as planning
from managed_k8s.restore import stale_objects
from managed_k8s.restore.plan import Left, Plan, RestoreError, Situation
from managed_k8s.state import versions
from managed_k8s.state.change_requests import RESTORE, Intent
from managed_k8s.state.history import History
from managed_k8s.state.store import Store

_MODULE = "managed_k8s_restore"
_LOOK_LIMIT, _JOB_LIMIT, _API_LIMIT = 15, 1200, 120
# Seconds to wait for a backup that is being taken.
_BACKUP_WAIT = 300
_LOST = "it was silent when the cluster was restored without it"
# What of a backup is sent, beside the database: where it is in it -> what it is called in the folder of the restore.
_PKI, _ENCRYPTION = "kubernetes/pki", "kubernetes/managed-k8s/encryption.yaml"

Say = Callable[[str], None]


class Cluster(Protocol):
    """What is needed of the cluster that is brought back; managed_k8s.cluster.Cluster has it."""

    @property
    def store(self) -> Store: ...
    @property
    def nodes(self) -> Sequence[Node]: ...
    @property
    def backups(self) -> Backups: ...
    @property
    def cloud(self) -> Any: ...
    @property
    def kube(self) -> Any: ...

    def anew(self) -> Cluster:
        """Return it with the settings and the version of Kubernetes that are on record now."""

    def executor(self) -> Any:
        """Return what runs its steps."""

    def reconciler(self, history: History | None = None, is_enough: Callable[[Snapshot], bool] = ...) -> Reconciler:
        """Return what brings it to what it should be."""


class Restore:
    """One cluster that is brought back; to be used while its lock is held.

    send: sends a folder to a server: (server, folder, id). infra:
    makes network and virtual IP. say: gets words of progress.
    """

    def __init__(
        self,
        cluster: Cluster,
        jobs: Jobs,
        send: Callable[[str, Path, str], None],
        infra: Callable[[], Any],
        history: Any,
        say: Say,
    ) -> None:
        self.cluster, self.jobs, self.send, self.infra, self.history, self.say = (
            cluster, jobs, send, infra, history, say,
        )  # fmt: skip
        self.store, self.intent = cluster.store, Intent(cluster.store)
        self.took: dict[str, float] = {}

    # Looking

    def look(self) -> Situation:
        """Return what there is. Raises CloudError, JobError, RestoreError."""
        servers = self.cluster.cloud.servers()
        # The way to the servers by ssh is written from it.
        self.store.write("inventory.json", servers)
        names = [name for name in self.jobs.accepted(self.store.cluster) if name in servers]
        # One that is being made has a key before it has a minion.
        running = [name for name in names if servers[name]["status"] == "ACTIVE" and not servers[name].get("pending")]
        answers = self._ask(names, running)
        broken = {name: answer for name, answer in answers.items() if not isinstance(answer.value, Mapping)}
        if broken:
            said = "; ".join(f"{name}: {str(answer.value)[-300:]}" for name, answer in sorted(broken.items()))
            raise RestoreError(f"servers cannot say what they are: {said}")
        left = {name: _left(answer.value) for name, answer in answers.items()}
        ids = {name: str(server["id"]) for name, server in servers.items()}
        return Situation(self.cluster.nodes, ids, left, (self.store.read(versions.SEEN) or {}).get("nodes", {}))

    def _ask(self, names: Collection[str], running: Collection[str]) -> dict[str, Answer]:
        question = f"{_MODULE}.inspect"
        answers = self.jobs.ask(names, question, limit=_LOOK_LIMIT, expected=running)
        # A minion that has not converged since it was made does not have the function yet.
        fresh = [name for name, answer in answers.items() if is_unknown_function(answer)]
        if fresh:
            sync_modules(self.jobs, fresh, limit=60)
            answers |= self.jobs.ask(fresh, question, limit=_LOOK_LIMIT, expected=fresh)
        return answers

    def begun(self) -> tuple[Plan, bool] | None:
        """Return the restore that was begun and did not end, and whether only the reconciler's part is left."""
        kept = self.store.read(RESTORE)
        if not kept:
            return None
        plan = Plan.of(kept["plan"])
        return plan, {*plan.steps()} - {*kept["done"]} <= {planning.JOIN}

    # Doing

    def run(self, plan: Plan) -> bool:
        """Do what is not done yet of a plan; return whether the cluster is as it should be.

        Raises RestoreError and what cloud, Salt, borg and API raise; then it can be called again.
        """
        actions: dict[str, Callable[[Plan], None]] = {
            planning.MAKE: self._make,
            planning.FETCH: self._fetch,
            planning.FENCE: self._fence,
            planning.CERTIFICATES: self._certificates,
            planning.STOP: self._stop,
            planning.DATABASE: self._database,
            planning.CLEAN: self._clean,
            planning.RESET: self._reset,
            planning.RESTART: self._restart,
        }
        kept = self.store.read(RESTORE) or {}
        done: list[str] = kept["done"] if kept.get("plan", {}).get("id") == plan.id else []
        if plan.base and not plan.own and not done:
            versions.went_back(self.store, self.cluster.backups.find(plan.backup).kubernetes)
            self.cluster = self.cluster.anew()
        self.history.add("restore", "begun", f"{plan.id}: {', '.join(plan.steps().values())}")
        for kind, words in plan.steps().items():
            if kind == planning.JOIN or kind in done:
                continue
            self.store.write(RESTORE, _kept(plan, done, pausing=kind != planning.MAKE))
            begun = time.monotonic()
            self.say(words)
            try:
                actions[kind](plan)
            except Exception as error:
                self.history.add("restore", "failed", f"{words}: {error}")
                raise
            self.took[kind] = round(time.monotonic() - begun, 1)
            self.say(f"  done after {self.took[kind]:.1f} s")
            done = [*done, kind]
        self.store.write(RESTORE, _kept(plan, done, pausing=False))
        return self._join(plan)

    def _make(self, plan: Plan) -> None:
        self.infra()
        # Before a server is there that could be taken for a cluster's first.
        self._note_begun(plan)
        self.intent.ask(plan.make)
        outcome = self.cluster.reconciler(self.history, is_enough=lambda look: _is_made(look, plan)).run()
        if plan.base not in self.look().left:
            lacking = "; ".join(outcome.waiting) or "its minion does not answer"
            raise RestoreError(f"{plan.base} is not there yet: {lacking}; see salt-run managed_k8s.history, then again")

    def _note_begun(self, plan: Plan) -> None:
        self.store.write("initialised.json", {"master": plan.base, "finished": True})
        self.cluster.cloud.begin()

    # The backup

    def _fetch(self, plan: Plan) -> None:
        backups = self.cluster.backups
        with service.lock(self.store).acquire(timeout=_BACKUP_WAIT), backups.scratch() as room:
            record = backups.find(plan.backup)
            targets = dict.fromkeys(plan.certificates, False)
            if plan.base and not plan.own:
                targets[plan.base] = True
            folder = self._extracted(backups, record, room, with_database=any(targets.values()))
            self._adopt(plan, folder)
            for name, with_database in targets.items():
                database = folder / upload.DATABASE
                if not with_database and database.exists():
                    database.rename(room / upload.DATABASE)
                elif with_database and not database.exists():
                    (room / upload.DATABASE).rename(database)
                self.send(name, folder, plan.id)
                self._job(name, "check", plan.id)
        if plan.base and not plan.own and not plan.fresh and not self._job(plan.base, "runs", record.kubernetes):
            # The pillar says so since it was known which backup it is.
            self.say(f"  converge {plan.base} to Kubernetes {record.kubernetes}")
            self.jobs.run(plan.base, "state.apply", limit=_JOB_LIMIT, queue=True)

    def _extracted(self, backups: Any, record: Record, room: Path, with_database: bool) -> Path:
        """Return a folder with what a master is sent; nothing in it that is not as it was when the backup was made."""
        content, folder = room / "content", room / "sent"
        content.mkdir()
        (folder / "pki" / "etcd").mkdir(parents=True)
        try:
            backups.repository.extract(
                record.name, content, _PKI, _ENCRYPTION, *([upload.DATABASE] if with_database else [])
            )
        except BorgError as error:
            raise RestoreError(
                f"{record.name} cannot be read: {error}. Choose another: salt-run managed_k8s.backups"
            ) from None
        for name in planning.AUTHORITIES:
            if not (content / _PKI / name).is_file():
                raise RestoreError(
                    f"{record.name}: {name} is missing in it; choose another: salt-run managed_k8s.backups"
                )
            shutil.move(content / _PKI / name, folder / "pki" / name)
        shutil.move(content / _ENCRYPTION, folder / "encryption.yaml")
        if with_database:
            seal = Seal.of(content / upload.DATABASE)
            if not seal.is_whole or seal.sha256 != record.sha256:
                raise RestoreError(
                    f"{record.name}: its database has SHA-256 {seal.sha256}; when it was made it was {record.sha256}. "
                    "Choose another: salt-run managed_k8s.backups"
                )
            shutil.move(content / upload.DATABASE, folder / upload.DATABASE)
            about = {"size": record.size, "sha256": record.sha256, "hash": record.hash}
            (folder / "about.json").write_text(json.dumps(about))
        return folder

    def _adopt(self, plan: Plan, folder: Path) -> None:
        """Take over what the Salt master itself has to know: the authority, and the key of the Secrets."""
        authority, known = (folder / "pki" / "ca.crt").read_text(), self.store.read_text(access.CA)
        if known is not None and known.strip() != authority.strip():
            if not plan.fresh or plan.kubelets:
                raise RestoreError(
                    f"{plan.backup} is of another cluster: its authority is not that of {self.store.cluster}. Remove "
                    f"the present one first (salt-run managed_k8s.destroy {self.store.cluster}; its backups stay)"
                )
            # Made anew once the API is there.
            self.store.remove(access.KUBECONFIG)
        self.store.write_text(access.CA, authority)
        if plan.base and not plan.own:
            self.store.write("encryption.json", {"key": _encryption_key(folder / "encryption.yaml")})

    # The control plane

    def _fence(self, plan: Plan) -> None:
        self._each(plan.fence, self.cluster.cloud.stop)
        self.intent.condemn(plan.fence, _LOST)

    def _certificates(self, plan: Plan) -> None:
        self._each(plan.certificates, lambda name: self._job(name, "certificates", plan.id))
        if not plan.base:
            self._each(
                plan.certificates,
                lambda name: self.jobs.run(name, "managed_k8s_control_plane.await_api", limit=_JOB_LIMIT),
            )

    def _stop(self, plan: Plan) -> None:
        self._each(plan.reset, lambda name: self._job(name, "stand_down", plan.id))

    def _database(self, plan: Plan) -> None:
        server = str(self.cluster.cloud.servers()[plan.base]["id"])
        if plan.fresh:
            self._job(plan.base, "initialise", plan.id, server)
        else:
            self._job(plan.base, "restore", plan.id, server, own=plan.own)
        self._note_begun(plan)
        self._await(self.cluster.kube.answers, "the API does not answer at the cluster's address")
        if not access.is_good(self.store):
            step = Step(f"{ACCESS}:{plan.base}", ACCESS, plan.base, "")
            self.cluster.executor().run(step, None)

    def _clean(self, plan: Plan) -> None:
        servers = {name: str(server["id"]) for name, server in self.cluster.cloud.servers().items()}
        staying = {name: server for name, server in servers.items() if plan.fence.get(name) != server}

        @tenacity.retry(stop=tenacity.stop_after_delay(_API_LIMIT), wait=tenacity.wait_fixed(1), reraise=True)
        def cleaned() -> list[str]:
            api = self.cluster.kube.connect()
            return stale_objects.clean(
                api, staying, plan.base, plan.reset, plan.kubelets, lambda words: self.say(f"  {words}")
            )

        unknown = cleaned()
        if unknown:
            self.say(f"  the backup does not know {', '.join(unknown)} as they are: they join anew")
        self._each(unknown, lambda name: self._job(name, "reset", plan.id))
        self.jobs.run(plan.base, "managed_k8s_kubeadm.mark_control_plane", limit=_JOB_LIMIT)

    def _reset(self, plan: Plan) -> None:
        self._each(plan.reset, lambda name: self._job(name, "reset", plan.id))

    def _restart(self, plan: Plan) -> None:
        self.jobs.ask(plan.kubelets, "service.restart", "kubelet", limit=60, expected=plan.kubelets)

    def _job(self, minion: str, function: str, *args: Any, **kwargs: Any) -> Any:
        return self.jobs.run(minion, f"{_MODULE}.{function}", *args, limit=_JOB_LIMIT, **kwargs)

    @staticmethod
    def _each(names: Iterable[str], action: Callable[[str], Any]) -> None:
        """Do something for several servers at the same time; raise the first error once all ended."""
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for future in [pool.submit(action, name) for name in names]:
                future.result()

    def _await(self, is_so: Callable[[], bool], otherwise: str) -> None:
        end = time.monotonic() + _API_LIMIT
        while not is_so():
            if time.monotonic() > end:
                raise RestoreError(
                    f"{otherwise} after {_API_LIMIT} seconds; see: salt-run managed_k8s.status; then again"
                )
            time.sleep(0.5)

    # The rest is what the reconciler does every day

    def _join(self, plan: Plan) -> bool:
        begun = time.monotonic()
        self.say(plan.steps()[planning.JOIN])
        self.intent.ask(plan.gone)
        # A server that was made since then has another id, and stays.
        self.intent.condemn(plan.newer, f"its kubelet is newer than {plan.backup}")
        # What failed meanwhile failed for want of a control plane.
        self.store.remove("attempts.json")
        if plan.base:
            # It passed in another state of the cluster.
            self.store.remove("smoke.json")
        outcome = self.cluster.reconciler(self.history).run()
        self.took[planning.JOIN] = round(time.monotonic() - begun, 1)
        if not outcome.ready:
            self.say("Left to do: " + "; ".join([*(step.description for step in outcome.steps), *outcome.waiting]))
            return False
        masters = [name for name in self.jobs.accepted(self.store.cluster) if "-master-" in name]
        self.jobs.ask(masters, f"{_MODULE}.finish", limit=60, expected=masters)
        self.store.remove(RESTORE)
        self.history.add("restore", "done", f"{plan.id}: the cluster is as it should be")
        return True


def _kept(plan: Plan, done: list[str], pausing: bool) -> dict[str, Any]:
    return {"plan": dataclasses.asdict(plan), "done": done, "pausing": pausing}


def _left(value: Mapping[str, Any]) -> Left:
    return Left(
        kubeadm=str(value["kubeadm"]),
        database=bool(value["database"]),
        quorum=bool(value["quorum"]),
        revision=value["revision"],
        index=int(value["index"]),
        certificates=tuple(map(str, value["certificates"])),
    )


def _is_made(look: Snapshot, plan: Plan) -> bool:
    """Tell whether everything before the restored control plane is made and converged."""
    minions, revisions = look.observed.minions, look.desired.revisions
    return all(name in minions and minions[name].revision == revisions.get(name) for name in plan.make)


def _encryption_key(file: Path) -> str:
    """Return the key that Secrets were encrypted with."""
    found = yaml.safe_load(file.read_text())
    return str(found["resources"][0]["providers"][0]["secretbox"]["keys"][0]["secret"])
