"""
Clusters of Kubernetes on OpenStack: what there is, what happens next, and making it so.

Every function takes a cluster's name; it may be left out while there is only one. What it prints is for people; with
``--out=json`` it prints the data instead. The exit code is 1 when something is wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

from managed_k8s.openstack import ssh_config
from managed_k8s.operations import access as reaching
from managed_k8s.operations import backup as backing_up
from managed_k8s.operations import clusters, inspect, nodes, verb, volumes
from managed_k8s.operations import reconcile as reconciling
from managed_k8s.operations import restore as restoring
from managed_k8s.operations import upgrade as upgrading
from managed_k8s.operations.verb import Said
from managed_k8s.status import live, terminal

# Salt's loader puts it here.
__opts__: dict[str, Any]

# What else is imported is no verb: the loader would take every function in here for one.
_terminal = verb.Terminal(lambda: __opts__)
_face, _say, _bullets, _escape = _terminal.face, _terminal.say, verb.bullets, verb.escape


def __virtual__() -> bool:
    """Load always. Where salt-run notes what runs, the Salt master makes when it first starts."""
    with contextlib.suppress(OSError):
        Path(__opts__["cachedir"], "proc").mkdir(parents=True, exist_ok=True)
    return True


@_face
def validate(cluster: str | None = None) -> Said:
    """Check settings, cluster.map and profiles, and say everything that is wrong with them.

    CLI Example: ``salt-run managed_k8s.validate demo``
    """
    data = clusters.validate(__opts__, cluster)
    return data, f"Settings, cluster.map and profiles are in order: {', '.join(data['clusters'])}.", True


@_face
def plan(cluster: str | None = None) -> Said:
    """Say what the reconciler would do now, when each step begins, and what it waits for. Changes nothing.

    CLI Example: ``salt-run managed_k8s.plan demo``
    """
    data = inspect.plan(__opts__, cluster)
    return data, terminal.plan(data), True


@_face
def status(cluster: str | None = None) -> Said:
    """Say on one screen what is there, what is wrong, and what happens next and when. For an exit code: check.

    CLI Example: ``salt-run managed_k8s.status demo``
    """
    data = inspect.status(__opts__, cluster)
    return data, [terminal.fitted(data, _terminal.console())], True


@_face
def check(cluster: str | None = None) -> Said:
    """Say what is wrong with a cluster and its backups, for monitoring; the exit code is 1 when something is.

    CLI Example: ``salt-run managed_k8s.check demo``
    """
    data = inspect.check(__opts__, cluster)
    well = f"{data['cluster']} is well, and its backups are."
    return data, _bullets(data["problems"]) or well, not data["problems"]


@_face
def history(
    cluster: str | None = None, node: str | None = None, since: str | None = None, last: int = 30, follow: bool = False
) -> Said:
    """Say what was done, why, and how long it took.

    node: only that server, or ``cluster`` or ``backup``. since: an age like 2h or 7d, or a time like 14:00 or
    "2026-11-24 14:00". last: at most so many. follow: go on, event by event, until interrupted.

    CLI Example: ``salt-run managed_k8s.history node=demo-worker-1 since=7d``
    """
    data = inspect.history(__opts__, cluster, node, since, int(last))
    if not (follow and _terminal.is_read):
        return data, terminal.history(data), True
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        for entry in inspect.follow(__opts__, data["cluster"], int(last)):
            _say(live.line(entry))
    return data, [], True


@_face
def diagram(cluster: str | None = None, out: str | None = None) -> Said:
    """Draw a cluster as it is now: addresses, gateways, masters, etcd, workers, volumes, coloured by state.

    out: a file for the SVG; without it, one in the cluster's folder.

    CLI Example: ``salt-run managed_k8s.diagram demo out=demo.svg``
    """
    data = inspect.diagram(__opts__, cluster, out)
    return data, _escape(data["path"]), True


@_face
def metrics(cluster: str | None = None, out: str | None = None) -> Said:
    """Print a cluster's metrics for Prometheus; docs/metrics.md lists them.

    out: a file to write them to instead.

    CLI Example: ``salt-run managed_k8s.metrics demo out=/var/lib/node_exporter/demo.prom``
    """
    data = inspect.measure(__opts__, cluster, out)
    return data, _escape(data["path"] or data["text"].rstrip()), True


@_face
def access(cluster: str | None = None) -> Said:
    """Say how to reach a cluster: kubeconfig, address of the API, ssh to its servers through a gateway.

    CLI Example: ``salt-run managed_k8s.access demo``
    """
    found = reaching.reach(__opts__, cluster)
    return found, map(_escape, ssh_config.sentences(found)), True


@_face
def kubeconfig(cluster: str | None = None, path: str | None = None) -> Said:
    """Say where a cluster's kubeconfig is, or write it where you want it, readable for you only.

    path: a file; without it the one that the Salt master keeps is named.

    CLI Example: ``salt-run managed_k8s.kubeconfig demo path=~/.kube/demo``
    """
    data = reaching.kubeconfig(__opts__, cluster, path)
    return data, _escape(data["path"]), True


@_face
def reconcile(cluster: str | None = None, yes: bool = False) -> Said:
    """Bring a cluster to what cluster.map and settings say, as far as that is possible now.

    Servers that the map has and the cloud has not are made. Servers that left the map are removed, after asking.
    yes: do not ask.

    CLI Example: ``salt-run managed_k8s.reconcile demo``
    """
    name, gone = reconciling.leaving(__opts__, cluster)
    if gone:
        _say("These servers are not in cluster.map. They will be drained and removed for good:")
        _terminal.show(*_bullets(sorted(gone)))
        if not yes and not _terminal.agrees("reconcile", f"remove servers of {name}"):
            _say("They stay.")
            gone = {}
    data = reconciling.reconcile(__opts__, name, gone)
    return data, terminal.reconciled(data), data["busy"] or data["ready"]


@_face
def wait(cluster: str | None = None, timeout: float = 3600) -> Said:
    """Show what happens until the cluster is as it should be.

    timeout: seconds after which it gives up, with exit code 1.

    CLI Example: ``salt-run managed_k8s.wait demo``
    """
    begun, console = time.monotonic(), _terminal.console()
    if _terminal.is_read and console.is_terminal:
        entries = reconciling.wait(__opts__, cluster, float(timeout), poll=0.25)
        live.watch(console, entries, lambda recent: reconciling.scene(__opts__, cluster, recent))
    else:
        for entry in filter(None, reconciling.wait(__opts__, cluster, float(timeout))):
            _say(live.line(entry))
    seconds = round(time.monotonic() - begun, 1)
    found = reaching.reach(__opts__, cluster)
    lines = [f"{found['cluster']} is ready.", *map(_escape, ssh_config.sentences(found))]
    return {"ready": True, "seconds": seconds, **found}, lines, True


@_face
def pause(cluster: str | None = None, reason: str = "an operator asked") -> Said:
    """Have nothing done to a cluster, neither healing nor anything else, until managed_k8s.resume.

    CLI Example: ``salt-run managed_k8s.pause demo reason="the network is being changed"``
    """
    data = reconciling.pause(__opts__, cluster, reason)
    name = data["cluster"]
    return data, _escape(f"{name} is {data['paused']}. To go on: salt-run managed_k8s.resume {name}"), True


@_face
def resume(cluster: str | None = None) -> Said:
    """Undo managed_k8s.pause.

    CLI Example: ``salt-run managed_k8s.resume demo``
    """
    data = reconciling.resume(__opts__, cluster)
    return data, f"{data['cluster']} {'goes on' if data['changed'] else 'was not paused'}.", True


@_face
def enqueue(id: str, reason: str = "asked for") -> Said:
    """Have the cluster of a minion looked at, soon and in the background. Reactors do nothing else.

    CLI Example: ``salt-run managed_k8s.enqueue demo-worker-1 reason="it looks ill"``
    """
    name = (data := reconciling.enqueue(__opts__, id, reason))["cluster"]
    return data, f"{name} will be looked at." if name else "That is no node of a cluster with settings.", True


@_face
def sweep() -> Said:
    """Have every cluster looked at that may need it. The Salt master's schedule calls this.

    CLI Example: ``salt-run managed_k8s.sweep``
    """
    works = {"clusters": reconciling, "backups": backing_up, "metrics": inspect, "volumes": volumes}
    data = {name: work.sweep(__opts__)["clusters"] for name, work in works.items()}
    titles = {"clusters": "Looking at", "backups": "Backups of", "volumes": "Backups of the volumes of"}
    return data, [f"{title}: {', '.join(data[name]) or 'none'}." for name, title in titles.items()], True


@_face
def replace(node: str, reason: str = "an operator asked") -> Said:
    """Remove a server as gently as it can be, and make it anew: drained, out of etcd, deleted, made, joined.

    Refused when etcd would lose its quorum, or the cluster its last gateway, by that.

    CLI Example: ``salt-run managed_k8s.replace demo-worker-1``
    """
    data = nodes.replace(__opts__, node, reason)
    return data, f"{node} will be replaced; follow it: salt-run managed_k8s.wait {data['cluster']}", True


@_face
def drain(node: str) -> Said:
    """Let no new pods onto a node and have those on it leave, as far as PodDisruptionBudgets let them.

    CLI Example: ``salt-run managed_k8s.drain demo-worker-1``
    """
    data = nodes.drain(__opts__, node, _say)
    return data, f"{node} is drained{'' if data['cordoned'] else '; somebody else had cordoned it before'}.", True


@_face
def uncordon(node: str) -> Said:
    """Undo managed_k8s.drain. What somebody else cordoned stays so.

    CLI Example: ``salt-run managed_k8s.uncordon demo-worker-1``
    """
    data = nodes.uncordon(__opts__, node)
    return data, f"{node} takes pods {'again' if data['changed'] else 'already'}.", True


@_face
def reboot(cluster: str | None = None, node: str | None = None, packages: bool = False) -> Said:
    """Drain and reboot a cluster's servers one after the other, in the background.

    node: only this one. packages: upgrade Debian's packages before each reboot.

    CLI Example: ``salt-run managed_k8s.reboot demo packages=True``
    """
    data = nodes.reboot(__opts__, cluster, node, bool(packages))
    follow = f"salt-run managed_k8s.wait {data['cluster']}"
    return data, f"To be rebooted: {', '.join(data['servers'])}; follow it: {follow}", True


@_face
def infra(cluster: str | None = None, test: bool = False) -> Said:
    """Make the cluster's network, router, security groups and virtual IP.

    test: only say what would be made.

    CLI Example: ``salt-run managed_k8s.infra demo test=True``
    """
    data = clusters.infra(__opts__, cluster, bool(test))
    return data, _bullets(data["changes"]) or "Everything is there.", True


@_face
def smoke(cluster: str | None = None) -> Said:
    """Test that the cluster does what it is for. Everything the test makes is removed again.

    CLI Example: ``salt-run managed_k8s.smoke demo``
    """
    data = clusters.smoke(__opts__, cluster, lambda check: _say(terminal.smoke_check(check)))
    return data, [], data["ok"]


@_face
def upgrade(cluster: str | None = None, version: str | None = None, test: bool = False) -> Said:
    """Upgrade Kubernetes, one node after the other, in the background; a backup is taken first.

    version: without it, what the settings say. test: only say whether it could begin.

    CLI Example: ``salt-run managed_k8s.upgrade demo version=1.37.2``
    """
    data = upgrading.upgrade(__opts__, cluster, None if version is None else str(version), bool(test), _say)
    return data, terminal.upgrade(data), True


@_face
def rollback(cluster: str | None = None, yes: bool = False) -> Said:
    """Stop an upgrade, and restore the backup that was taken before it.

    It says first what it does and what will be lost, and asks. yes: do not ask.

    CLI Example: ``salt-run managed_k8s.rollback demo``
    """
    data = upgrading.rollback(__opts__, cluster)
    old, new = data["to"], data["from"]
    _say(f"The upgrade of {data['cluster']} to {new} does not go on. From before it, of {old}: {data['backup']}.")
    _say(f"To go on with {new} instead of going back: {data['instead']}")
    restored, lines, ready = _restored(data["cluster"], data["backup"], None, yes)
    return {**data, **restored}, lines, ready


@_face
def destroy(cluster: str | None = None, yes: bool = False) -> Said:
    """Remove a cluster with everything in it: servers, network, credentials, keys.

    yes: do not ask.

    CLI Example: ``salt-run managed_k8s.destroy demo``
    """
    found, things = clusters.destroy_plan(__opts__, cluster)
    _terminal.show("This will be removed for good:", *_bullets(things))
    if not yes and not _terminal.agrees("destroy", f"remove {found.name}", answer=found.name):
        return {"removed": []}, "Nothing was removed.", False
    return clusters.destroy(__opts__, found, _say), [], True


@_face
def backup(cluster: str | None = None, reason: str = "asked for") -> Said:
    """Take a backup now: etcd, certificates, keys.

    CLI Example: ``salt-run managed_k8s.backup demo``
    """
    made = backing_up.backup(__opts__, cluster, str(reason))
    return dataclasses.asdict(made), _escape(terminal.backup(made)), True


@_face
def backups(cluster: str | None = None) -> Said:
    """List the backups, newest first; the exit code is 1 when something is wrong with them.

    CLI Example: ``salt-run managed_k8s.backups demo``
    """
    found, state = backing_up.listing(__opts__, cluster)
    data = {"backups": [dataclasses.asdict(one) for one in found], **state}
    return data, [terminal.backups(found), *_bullets(state["problems"])], not state["problems"]


@_face
def backup_verify(cluster: str | None = None, backup: str | None = None) -> Said:
    """Restore a backup into a scratch etcd on this machine, and compare it with what was noted when it was made.

    backup: its name; without it, the newest.

    CLI Example: ``salt-run managed_k8s.backup_verify demo``
    """
    tried = backing_up.verify(__opts__, cluster, backup)
    said = f"{tried.name} is good: a scratch etcd has its {tried.count} keys at revision {tried.revision}."
    return dataclasses.asdict(tried), said, True


@_face
def restore(
    cluster: str | None = None, backup: str | None = None, target_time: str | None = None, yes: bool = False
) -> Said:
    """Bring a cluster back: what is lost of its masters, or all of it, or an earlier state.

    It says first what it does and what will be lost, and asks. A restore that was interrupted is gone on with.
    backup: go back to it. target_time: go back to the newest good one before that time (UTC, 2026-11-24T13:45).
    Without either only what is lost is replaced, with the least loss. yes: do not ask.

    CLI Example: ``salt-run managed_k8s.restore demo``
    """
    return _restored(cluster, backup, target_time, yes)


def _restored(cluster: str | None, backup: str | None, target_time: str | None, yes: bool) -> Said:
    begun = time.monotonic()
    with restoring.exclusive(__opts__, cluster, _say) as found:
        proposed = restoring.propose(found, backup, target_time)
        name = found.store.cluster
        _terminal.show(*terminal.restore(name, proposed.plan.id, proposed.resumed, proposed.steps, proposed.losses))
        if not yes and not _terminal.agrees("restore", f"restore {name}"):
            return {"cluster": name, "restored": False}, "Nothing was changed.", False
        ready = found.run(proposed.plan)
    data = {"cluster": name, "restored": ready, "seconds": round(time.monotonic() - begun, 1), "steps": found.took}
    outcome = "as it should be again" if ready else "not ready yet; see: salt-run managed_k8s.status"
    return data, f"{name} is {outcome}.", ready


@_face
def volume_backup(cluster: str | None = None, reason: str = "asked for") -> Said:
    """Back up the volumes of all claims with the label managed-k8s/backup=true now.

    CLI Example: ``salt-run managed_k8s.volume_backup demo``
    """
    made = volumes.backup(__opts__, cluster, str(reason))
    return {"backups": volumes.data(made)}, terminal.volumes_backed_up(made), True


@_face
def volume_backups(cluster: str | None = None) -> Said:
    """List the backups of volumes, newest first; the exit code is 1 when something is wrong with them.

    CLI Example: ``salt-run managed_k8s.volume_backups demo``
    """
    found, state = volumes.listing(__opts__, cluster)
    lines = [terminal.volume_backups(found), *_bullets(state["problems"])]
    return {"backups": volumes.data(found), **state}, lines, not state["problems"]


@_face
def volume_restore(
    cluster: str | None = None,
    pvc: str | None = None,
    namespace: str | None = None,
    backup: str | None = None,
    into: str | None = None,
    into_namespace: str | None = None,
    yes: bool = False,
) -> Said:
    """Bring volumes back from their backups, under their own names or beside them. Old volumes stay, without a claim.

    pvc, namespace: whose; left out, all that have backups. backup: its name; left out, the newest good one of each.
    into, into_namespace: name and namespace to restore to. yes: do not ask.

    CLI Example: ``salt-run managed_k8s.volume_restore demo pvc=data namespace=shop into=data-before``
    """
    service, planned = volumes.plan(__opts__, cluster, pvc, namespace, backup, into, into_namespace)
    _terminal.show("This will be restored:", *_bullets(map(str, planned)))
    if not yes and not _terminal.agrees("volume_restore", f"restore {len(planned)} volumes"):
        return {"restored": []}, "Nothing was changed.", False
    return {"restored": volumes.restore(service, planned, _say)}, [], True
