"""What an operator can ask for about upgrades and reboots, as plain functions; the runner is their face."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from managed_k8s import plan
from managed_k8s.artifacts import mirror
from managed_k8s.backup import service
from managed_k8s.cluster import Cluster
from managed_k8s.config import kubernetes_versions
from managed_k8s.errors import RequestError
from managed_k8s.minions.jobs import SaltJobs
from managed_k8s.model import rollout as rollout_model
from managed_k8s.model.cluster import Snapshot
from managed_k8s.operations.clusters import choose
from managed_k8s.operations.reconcile import enqueue
from managed_k8s.plan import upgrade_preflight
from managed_k8s.state import versions
from managed_k8s.state.history import History
from managed_k8s.state.rollout import Record

Say = Callable[[str], None]
_CHECK_LIMIT = 90


def upgrade(opts: Mapping[str, Any], cluster: str | None, version: str | None, test: bool, say: Say) -> dict[str, Any]:
    """Have a cluster upgraded in the background, after a backup. One that is under way goes on.

    version: like 1.37.2; None: what the settings say. test: only say whether it could begin.
    Raises RequestError with everything that speaks against it; what a backup raises.
    """
    found = Cluster(opts, choose(opts, cluster))
    wanted = found.written.kubernetes.version if version is None else version
    say("ask cluster, minions and mirror")
    look = found.observer().look()
    situation = _situation(found, look)
    problems = upgrade_preflight.version_problems(situation, wanted, kubernetes_versions.SUPPORTED)
    goes_on = not problems and situation.begun == wanted
    if not goes_on:
        # A version that leads nowhere needs nobody asked; the rest is said at once.
        problems += [] if problems else _mirror_problems(found, wanted)
        problems += upgrade_preflight.problems(situation, wanted) if upgrade_preflight.is_version(wanted) else []
    if problems:
        raise RequestError(f"{found.name} is not upgraded:\n" + "\n".join(f"- {problem}" for problem in problems))
    record = Record(found.store)
    if not (test or goes_on):
        say(f"take a backup of {situation.runs}")
        record.ask(wanted, situation.runs, _backup(found, wanted), found.written.kubernetes.version)
        History(found.store, opts).add("cluster", "upgrade_asked", f"from {situation.runs} to {wanted}")
    if not test:
        record.halt(False)
        enqueue(opts, found.name, f"upgrade to {wanted}")
    return {
        "cluster": found.name,
        "from": situation.runs,
        "to": wanted,
        "begun": not test,
        "backup": record.upgrade().get("backup") if not test else None,
        "written": found.written.kubernetes.version,
    }


def _backup(found: Cluster, version: str) -> str:
    with service.lock(found.store):
        return found.backups.take(f"before the upgrade to {version}").name


def _situation(found: Cluster, look: Snapshot) -> upgrade_preflight.Situation:
    rollout, names = look.observed.rollout, sorted(look.observed.rollout.versions.kubelets)
    answers = SaltJobs(found.opts).ask(names, "managed_k8s_upgrade.check", limit=_CHECK_LIMIT, expected=names)
    # That the file names another version is why this was asked for.
    sentences = [text for text in plan.waiting(look.desired, look.observed) if text not in rollout.notes]
    return upgrade_preflight.Situation(
        cluster=found.name,
        written=found.written,
        runs=rollout.versions.config,
        kubelets=rollout.versions.kubelets,
        todo=[*sentences, *(step.description for step in plan.plan(look.desired, look.observed))],
        etcd=look.observed.etcd,
        begun=under_way(look),
        maintenance={node.id for node in found.nodes} & rollout.maintenance.keys(),
        expected=names,
        answers={name: answer.value for name, answer in answers.items() if answer.ok},
    )


def under_way(look: Snapshot) -> str:
    """Return the version of an upgrade that did not end yet, or nothing."""
    rollout = look.observed.rollout
    runs = [rollout.versions.config, *rollout.versions.control_planes.values(), *rollout.versions.kubelets.values()]
    return (
        rollout.target
        if rollout.target and any(rollout_model.is_older(one, rollout.target) for one in runs if one)
        else ""
    )


def _mirror_problems(found: Cluster, version: str) -> list[str]:
    try:
        offered = mirror.artifacts(found.store, versions.at(found.written, version))
    except mirror.MirrorError as error:
        return [str(error)]
    lacks = mirror.lacking(offered) or mirror.missing(offered)
    return [f"{offered['base']}: lacks {', '.join(lacks)}; copy the mirror again (docs/mirror.md)"] if lacks else []


def rollback(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Stop an upgrade and return the backup that was taken before it, for a restore to bring it back.

    Raises RequestError when there was no upgrade, BackupError or BorgError when the backup is not there.
    """
    name = choose(opts, cluster)
    found = Cluster(opts, name)
    asked = Record(found.store).upgrade()
    if not asked:
        raise RequestError(f"{name} was never upgraded here; its backups: salt-run managed_k8s.backups {name}")
    kept = found.backups.find(asked["backup"])
    if not kept.good:
        raise RequestError(
            f"{kept.name}, from before the upgrade, is not good: {kept.problem}; see managed_k8s.backups"
        )
    if not asked.get("halted"):
        Record(found.store).halt(True)
        History(found.store, opts).add("cluster", "upgrade_halted", f"a way back to {asked['before']} was asked for")
    return {
        "cluster": name,
        "from": asked["version"],
        "to": asked["before"],
        "backup": kept.name,
        "instead": f"salt-run managed_k8s.upgrade {name} version={asked['version']}",
    }
