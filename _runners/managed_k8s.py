"""
Clusters of Kubernetes on OpenStack: what there is, what happens next, and making it so.

Every function takes a cluster's name; it may be left out while there is only one. What it prints is for people; with
``--out=json`` it prints the data instead. The exit code is 1 when something is wrong.
"""

import collections
import contextlib
import dataclasses
import functools
import inspect
import sys
import time
import traceback
from pathlib import Path

import rich.markup
from rich.console import Console
from rich.live import Live
from rich.table import Table

from managed_k8s import errors
from managed_k8s.openstack import ssh_config
from managed_k8s.operations import access, clusters, nodes, volumes
from managed_k8s.operations import backup as backing_up
from managed_k8s.operations import inspect as insight
from managed_k8s.operations import reconcile as reconciling
from managed_k8s.operations import restore as restoring
from managed_k8s.operations import upgrade as upgrading
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from managed_k8s.status import live as live_status
from managed_k8s.status import terminal

# What else is imported is no verb: the loader would take every function in here for one.
_escape = rich.markup.escape
# Lines of what is no terminal.
_ALL = 100_000


def __virtual__():
    """Load always. Where salt-run notes what runs, the Salt master makes when it first starts."""
    with contextlib.suppress(OSError):
        Path(__opts__["cachedir"], "proc").mkdir(parents=True, exist_ok=True)
    return True


def _for_people():
    return not __opts__.get("output")


def _console(**options):
    return Console(highlight=False, **options)


def _print(*lines):
    if _for_people():
        console = _console(soft_wrap=True)
        for line in lines:
            console.print(line)


def _face(function):
    """Turn a verb into a runner function: wrong input is one message, and the exit code says how it went.

    salt-run exits with 0 whatever a runner returns (https://github.com/saltstack/salt/issues/61173), unless the
    data has a `retcode`; and it prints what is returned, unless an outputter is named with it.
    """

    @functools.wraps(function)
    def face(*args, **kwargs):
        try:
            data, well = function(*_arguments(function, args, kwargs))
            code = 0 if well else 1
        except (KeyboardInterrupt, SystemExit):
            # Salt turns Ctrl-C and SIGTERM into SystemExit, and that into a traceback.
            data, code = {"error": f"interrupted; {_GOES_ON.get(function.__name__, _HALFWAY)}"}, 130
        except Exception as error:
            # The traceback is of a defect of ours: Salt would take it for wrong arguments, or end with exit code 0.
            expected = errors.is_expected(error)
            data, code = {"error": errors.text(error) if expected else traceback.format_exc()}, 1
        if "error" in data and _for_people():
            sys.stderr.write(f"{data['error']}\n")
        outcome = {**data, "retcode": code}
        return {"outputter": "silent", "data": outcome} if _for_people() else outcome

    return face


_GOES_ON = {"wait": "the reconciler goes on without you; come back: salt-run managed_k8s.wait"}
_HALFWAY = "what was begun is found by the next run; see: salt-run managed_k8s.status"


def _arguments(function, args, kwargs):
    """Return the arguments by position; Salt would answer wrong ones with exit code 0."""
    signature = inspect.signature(function)
    try:
        bound = signature.bind(*args, **{key: value for key, value in kwargs.items() if not key.startswith("__")})
    except TypeError as error:
        raise errors.RequestError(f"managed_k8s.{function.__name__}{signature}: {error}") from None
    bound.apply_defaults()
    return bound.args


def _line(entry):
    return _escape(live_status.line(entry))


def _bullets(sentences):
    return [f"  - {_escape(sentence)}" for sentence in sentences]


@_face
def validate(cluster=None):
    """
    Check settings, cluster.map and profiles, and say everything that is wrong with them.

    CLI Example: ``salt-run managed_k8s.validate demo``
    """
    data = clusters.validate(__opts__, cluster)
    _print(f"Settings, cluster.map and profiles are in order: {', '.join(data['clusters'])}.")
    return data, True


@_face
def plan(cluster=None):
    """
    Say what the reconciler would do now, when each step begins, and what it waits for. Changes nothing.

    CLI Example: ``salt-run managed_k8s.plan demo``
    """
    data = insight.plan(__opts__, cluster)
    _print(*terminal.plan(data))
    return data, True


@_face
def status(cluster=None):
    """
    Say on one screen what is there, what is wrong, and what happens next and when. For an exit code: check.

    CLI Example: ``salt-run managed_k8s.status demo``
    """
    data = insight.status(__opts__, cluster)
    console = _console()
    _print(terminal.draw(data, console.height) if console.is_terminal else terminal.draw(data, _ALL))
    return data, True


@_face
def history(cluster=None, node=None, since=None, last=30):
    """
    Say what was done, why, and how long it took.

    node: only that server, or ``cluster`` or ``backup``. since: an age like 2h or 7d, or a time like 14:00 or
    "2026-11-24 14:00". last: at most so many.

    CLI Example: ``salt-run managed_k8s.history node=demo-worker-1 since=7d``
    """
    data = insight.history(__opts__, cluster, node, since, last)
    _print(*terminal.history(data))
    return data, True


@_face
def diagram(cluster=None, out=None):
    """
    Draw a cluster as it is now: addresses, gateways, masters, etcd, workers, volumes, coloured by state.

    out: a file for the SVG; without it, one in the cluster's folder.

    CLI Example: ``salt-run managed_k8s.diagram demo out=demo.svg``
    """
    data = insight.diagram(__opts__, cluster, out)
    _print(_escape(data["path"]))
    return data, True


@_face
def metrics(cluster=None, out=None):
    """
    Print a cluster's metrics for Prometheus; docs/metrics.md lists them.

    out: a file to write them to instead.

    CLI Example: ``salt-run managed_k8s.metrics demo out=/var/lib/node_exporter/demo.prom``
    """
    data = insight.measure(__opts__, cluster, out)
    _print(_escape(data["path"] or data["text"].rstrip()))
    return data, True


@_face
def reconcile(cluster=None, yes=False):
    """
    Bring a cluster to what cluster.map and settings say, as far as that is possible now.

    Servers that the map has and the cloud has not are made. Servers that left the map are removed, after asking.
    yes: do not ask.

    CLI Example: ``salt-run managed_k8s.reconcile demo``
    """
    name, gone = reconciling.leaving(__opts__, cluster)
    if gone:
        _print(
            "These servers are not in cluster.map. They will be drained and removed for good:", *_bullets(sorted(gone))
        )
        if not yes and not _agreed("reconcile", f"remove servers of {name}"):
            _print("They stay.")
            gone = {}
    data = reconciling.reconcile(__opts__, name, gone)
    if data["busy"]:
        _print("A reconciler is at work and looks again; follow it: salt-run managed_k8s.wait")
        return data, True
    for title, sentences in (("Left to do:", data["steps"]), ("Waiting for:", data["waiting"])):
        if sentences:
            _print(title, *_bullets(sentences))
    _print(f"{data['cluster']} is {'as it should be' if data['ready'] else 'not ready'}.")
    return data, data["ready"]


def _agreed(function, what):
    if not (_for_people() and sys.stdin.isatty()):
        raise errors.RequestError(f"{function}: nobody can be asked here; say yes=True to {what}")
    return input(f"Type yes to {what}: ").strip() == "yes"


@_face
def replace(node, reason="an operator asked"):
    """
    Remove a server as gently as it can be, and make it anew: drained, out of etcd, deleted, made, joined.

    Refused when etcd would lose its quorum, or the cluster its last gateway, by that.

    CLI Example: ``salt-run managed_k8s.replace demo-worker-1``
    """
    data = nodes.replace(__opts__, node, reason)
    _print(f"{node} will be replaced; follow it: salt-run managed_k8s.wait {data['cluster']}")
    return data, True


@_face
def drain(node):
    """
    Let no new pods onto a node and have those on it leave, as far as PodDisruptionBudgets let them.

    CLI Example: ``salt-run managed_k8s.drain demo-worker-1``
    """
    data = nodes.drain(__opts__, node, lambda words: _print(_escape(words)))
    _print(f"{node} is drained." if data["cordoned"] else f"{node} is drained; somebody else had cordoned it before.")
    return data, True


@_face
def uncordon(node):
    """
    Undo managed_k8s.drain. What somebody else cordoned stays so.

    CLI Example: ``salt-run managed_k8s.uncordon demo-worker-1``
    """
    data = nodes.uncordon(__opts__, node)
    _print(f"{node} takes pods again." if data["changed"] else f"{node} takes pods already.")
    return data, True


@_face
def pause(cluster=None, reason="an operator asked"):
    """
    Have nothing done to a cluster, neither healing nor anything else, until managed_k8s.resume.

    CLI Example: ``salt-run managed_k8s.pause demo reason="the network is being changed"``
    """
    data = reconciling.pause(__opts__, cluster, reason)
    _print(f"{data['cluster']} is {data['paused']}. To go on: salt-run managed_k8s.resume {data['cluster']}")
    return data, True


@_face
def resume(cluster=None):
    """
    Undo managed_k8s.pause.

    CLI Example: ``salt-run managed_k8s.resume demo``
    """
    data = reconciling.resume(__opts__, cluster)
    _print(f"{data['cluster']} {'goes on' if data['changed'] else 'was not paused'}.")
    return data, True


@_face
def enqueue(id, reason="asked for"):
    """
    Have the cluster of a minion looked at, soon and in the background. Reactors do nothing else.

    CLI Example: ``salt-run managed_k8s.enqueue demo-worker-1 reason="it looks ill"``
    """
    data = reconciling.enqueue(__opts__, id, reason)
    _print(
        f"{data['cluster']} will be looked at." if data["cluster"] else "That is no node of a cluster with settings."
    )
    return data, True


@_face
def sweep():
    """
    Have every cluster looked at that may need it. The Salt master's schedule calls this.

    CLI Example: ``salt-run managed_k8s.sweep``
    """
    data = reconciling.sweep(__opts__)
    data["backups"] = backing_up.sweep(__opts__)["clusters"]
    data["metrics"] = insight.sweep(__opts__)["clusters"]
    data["volumes"] = volumes.sweep(__opts__)["clusters"]
    _print(f"Looking at: {', '.join(data['clusters']) or 'none'}.")
    _print(f"Backups of: {', '.join(data['backups']) or 'none'}.")
    _print(f"Backups of the volumes of: {', '.join(data['volumes']) or 'none'}.")
    return data, True


@_face
def wait(cluster=None, timeout=3600):
    """
    Show what happens until the cluster is as it should be.

    timeout: seconds after which it gives up, with exit code 1.

    CLI Example: ``salt-run managed_k8s.wait demo``
    """
    begun, limit = time.monotonic(), float(timeout)
    if _for_people() and _console().is_terminal:
        _watch(cluster, limit)
    else:
        for entry in reconciling.wait(__opts__, cluster, limit):
            if entry is not None:
                _print(_line(entry))
    seconds = round(time.monotonic() - begun, 1)
    found = access.reach(__opts__, cluster)
    _print(f"{found['cluster']} is ready.", *map(_escape, ssh_config.sentences(found)))
    return {"ready": True, "seconds": seconds, **found}, True


def _watch(cluster, limit):
    """Draw what the reconciler does; what went wrong is printed above the picture, and stays."""
    recent = collections.deque(maxlen=20)
    console = _console()

    def draw():
        live.update(live_status.draw(reconciling.scene(__opts__, cluster, recent), console.height), refresh=True)

    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for entry in reconciling.wait(__opts__, cluster, limit, poll=0.25):
            if entry is None:
                draw()
                continue
            recent.append(entry)
            if entry["what"] in _BAD:
                live.console.print(f"[red]{_line(entry)}[/]", soft_wrap=True)
        draw()


_BAD = ("failed", "look_failed", "refused")


@_face
def reach(cluster=None):
    """
    Say how to reach a cluster: kubeconfig, address of the API, ssh to its servers through a gateway.

    CLI Example: ``salt-run managed_k8s.reach demo``
    """
    found = access.reach(__opts__, cluster)
    _print(*map(_escape, ssh_config.sentences(found)))
    return found, True


@_face
def events(cluster=None, last=20, follow=True):
    """
    Show what happened to a cluster, and what happens until interrupted.

    last: how many past events. follow: whether to go on.

    CLI Example: ``salt-run managed_k8s.events demo follow=False``
    """
    history = History(Store.of(__opts__, clusters.choose(__opts__, cluster)))
    past = history.last(int(last))
    if follow and _for_people():
        _follow(history, int(last))
    else:
        _print(*map(_line, past))
    return {"events": past}, True


def _follow(history, last):
    try:
        for entry in history.follow(last):
            if entry is None:
                time.sleep(0.5)
            else:
                _print(_line(entry))
    except (KeyboardInterrupt, SystemExit):
        return


@_face
def kubeconfig(cluster=None, path=None):
    """
    Say where a cluster's kubeconfig is, or write it where you want it, readable for you only.

    path: a file; without it the one that the Salt master keeps is named.

    CLI Example: ``salt-run managed_k8s.kubeconfig demo path=~/.kube/demo``
    """
    data = access.kubeconfig(__opts__, cluster, path)
    _print(data["path"])
    return data, True


@_face
def infra(cluster=None, test=False):
    """
    Make the cluster's network, router, security groups and virtual IP.

    test: only say what would be made.

    CLI Example: ``salt-run managed_k8s.infra demo test=True``
    """
    data = clusters.infra(__opts__, cluster, bool(test))
    _print(*(_bullets(data["changes"]) or ["Everything is there."]))
    return data, True


@_face
def smoke(cluster=None):
    """
    Test that the cluster does what it is for. Everything the test makes is removed again.

    CLI Example: ``salt-run managed_k8s.smoke demo``
    """

    def report(check):
        _print(_escape(f"{'ok     ' if check.ok else 'FAILED '} {check.name} ({check.seconds:.1f} s) {check.detail}"))

    data = clusters.smoke(__opts__, cluster, report)
    return data, data["ok"]


@_face
def backup(cluster=None, reason="asked for"):
    """
    Take a backup now: etcd, certificates, keys.

    CLI Example: ``salt-run managed_k8s.backup demo``
    """
    made = backing_up.backup(__opts__, cluster, str(reason))
    _print(f"{made.name}: revision {made.revision}, {made.count} keys, {_size(made.size)}, from {made.member}")
    return dataclasses.asdict(made), True


@_face
def backups(cluster=None):
    """
    List the backups, newest first; the exit code is 1 when something is wrong with them.

    CLI Example: ``salt-run managed_k8s.backups demo``
    """
    found, state = backing_up.listing(__opts__, cluster)
    table = Table("backup", "size", "revision", "keys", "Kubernetes", "etcd", "from", "why", "verified", box=None)
    for one in found:
        numbers = (_size(one.size), str(one.revision), str(one.count), one.kubernetes, one.etcd)
        verified = _escape(one.problem) or ("restored in a drill" if one.proven else "when made")
        table.add_row(one.name, *numbers, one.member, _escape(one.reason), verified)
    _print(table, *_bullets(state["problems"]))
    return {"backups": [dataclasses.asdict(one) for one in found], **state}, not state["problems"]


def _size(count):
    return f"{count / 1e6:.1f} MB"


@_face
def backup_verify(cluster=None, backup=None):
    """
    Restore a backup into a scratch etcd on this machine, and compare it with what was noted when it was made.

    backup: its name; without it, the newest.

    CLI Example: ``salt-run managed_k8s.backup_verify demo``
    """
    tried = backing_up.verify(__opts__, cluster, backup)
    _print(f"{tried.name} is good: a scratch etcd has its {tried.count} keys at revision {tried.revision}.")
    return dataclasses.asdict(tried), True


@_face
def volume_backup(cluster=None, reason="asked for"):
    """
    Back up the volumes of all claims with the label managed-k8s/backup=true now.

    CLI Example: ``salt-run managed_k8s.volume_backup demo``
    """
    made = volumes.backup(__opts__, cluster, str(reason))
    _print(*(f"{one.claim.path}: {one.name}, {one.size} GiB" for one in made))
    _print(f"{len(made)} volumes were backed up." if made else "No claim has the label managed-k8s/backup=true.")
    return {"backups": [dataclasses.asdict(one) | {"name": one.name} for one in made]}, True


@_face
def volume_backups(cluster=None):
    """
    List the backups of volumes, newest first; the exit code is 1 when something is wrong with them.

    CLI Example: ``salt-run managed_k8s.volume_backups demo``
    """
    found, state = volumes.listing(__opts__, cluster)
    table = Table("claim", "backup", "size", "why", "Cinder backup", "problem", box=None)
    for one in found:
        table.add_row(
            one.claim.path, one.name, f"{one.size} GiB", _escape(one.reason), one.id, _escape(one.problem or "none")
        )
    _print(table, *_bullets(state["problems"]))
    listed = [dataclasses.asdict(one) | {"name": one.name} for one in found]
    return {"backups": listed, **state}, not state["problems"]


@_face
def restore_volume(cluster=None, pvc=None, namespace=None, backup=None, into=None, into_namespace=None, yes=False):
    """
    Bring volumes back from their backups, under their own names or beside them. Old volumes stay, without a claim.

    pvc, namespace: whose; left out, all that have backups. backup: its name; left out, the newest good one of each.
    into, into_namespace: name and namespace to restore to. yes: do not ask.

    CLI Example: ``salt-run managed_k8s.restore_volume demo pvc=data namespace=shop into=data-before``
    """
    service, planned = volumes.plan(__opts__, cluster, pvc, namespace, backup, into, into_namespace)
    _print("This will be restored:", *_bullets(map(str, planned)))
    if not yes and not _agreed("restore_volume", f"restore {len(planned)} volumes"):
        _print("Nothing was changed.")
        return {"restored": []}, False
    done = volumes.restore(service, planned, lambda words: _print(_escape(words)))
    return {"restored": done}, True


@_face
def upgrade(cluster=None, version=None, test=False):
    """
    Upgrade Kubernetes, one node after the other, in the background; a backup is taken first.

    version: without it, what the settings say. test: only say whether it could begin.

    CLI Example: ``salt-run managed_k8s.upgrade demo version=1.37.2``
    """
    wanted = None if version is None else str(version)
    data = upgrading.upgrade(__opts__, cluster, wanted, bool(test), lambda words: _print(_escape(words)))
    name, way = data["cluster"], f"from {data['from']} to {data['to']}"
    if not data["begun"]:
        _print(f"Nothing speaks against upgrading {name} {way}.")
        return data, True
    _print(
        f"{name} is upgraded {way}; follow it: salt-run managed_k8s.wait {name}",
        f"The backup from before: {data['backup']}; the way back: salt-run managed_k8s.rollback {name}",
    )
    if data["written"] != data["to"]:
        _print(f"Write kubernetes.version: {data['to']} into pillar/clusters/{name}.sls, for whoever reads it.")
    return data, True


@_face
def rollback(cluster=None, yes=False):
    """
    Stop an upgrade, and restore the backup that was taken before it.

    It says first what it does and what will be lost, and asks. yes: do not ask.

    CLI Example: ``salt-run managed_k8s.rollback demo``
    """
    data = upgrading.rollback(__opts__, cluster)
    _print(
        f"The upgrade of {data['cluster']} to {data['from']} does not go on. From before it, of {data['to']}: "
        f"{data['backup']}.",
        f"To go on with {data['from']} instead of going back: {data['instead']}",
    )
    restored, ready = _restored(data["cluster"], data["backup"], None, yes)
    return {**data, **restored}, ready


@_face
def reboot(cluster=None, node=None, packages=False):
    """
    Drain and reboot a cluster's servers one after the other, in the background.

    node: only this one. packages: upgrade Debian's packages before each reboot.

    CLI Example: ``salt-run managed_k8s.reboot demo packages=True``
    """
    data = nodes.reboot(__opts__, cluster, node, bool(packages))
    _print(
        f"To be rebooted: {', '.join(data['servers'])}; follow it: salt-run managed_k8s.wait {data['cluster']}",
    )
    return data, True


@_face
def restore(cluster=None, backup=None, target_time=None, yes=False):
    """
    Bring a cluster back: what is lost of its masters, or all of it, or an earlier state.

    It says first what it does and what will be lost, and asks. A restore that was interrupted is gone on with.
    backup: go back to it. target_time: go back to the newest good one before that time (UTC, 2026-11-24T13:45).
    Without either only what is lost is replaced, with the least loss. yes: do not ask.

    CLI Example: ``salt-run managed_k8s.restore demo``
    """
    return _restored(cluster, backup, target_time, yes)


def _restored(cluster, backup, target_time, yes):
    begun = time.monotonic()
    with restoring.exclusive(__opts__, cluster, lambda words: _print(_escape(words))) as found:
        proposed = restoring.propose(found, backup, target_time)
        name = found.store.cluster
        title = f"{proposed.plan.id} of {name} was begun, and is gone on with:" if proposed.resumed else "This is done:"
        _print(title, *(f"  {n}. {_escape(words)}" for n, words in enumerate(proposed.steps, 1)))
        _print("This will be lost:", *_bullets(proposed.losses))
        if not yes and not _agreed("restore", f"restore {name}"):
            _print("Nothing was changed.")
            return {"cluster": name, "restored": False}, False
        ready = found.run(proposed.plan)
    seconds = round(time.monotonic() - begun, 1)
    _print(f"{name} is {'as it should be again' if ready else 'not ready yet; see: salt-run managed_k8s.status'}.")
    return {"cluster": name, "restored": ready, "seconds": seconds, "steps": found.took}, ready


@_face
def check(cluster=None):
    """
    Say what is wrong with a cluster and its backups, for monitoring; the exit code is 1 when something is.

    CLI Example: ``salt-run managed_k8s.check demo``
    """
    data = insight.check(__opts__, cluster)
    _print(*(_bullets(data["problems"]) or [f"{data['cluster']} is well, and its backups are."]))
    return data, not data["problems"]


@_face
def destroy(cluster=None, yes=False):
    """
    Remove a cluster with everything in it: servers, network, credentials, keys.

    yes: do not ask.

    CLI Example: ``salt-run managed_k8s.destroy demo``
    """
    found, things = clusters.destroy_plan(__opts__, cluster)
    _print("This will be removed for good:", *_bullets(things))
    if not yes and not _confirmed(found.name):
        _print("Nothing was removed.")
        return {"removed": []}, False
    return clusters.destroy(__opts__, found, lambda words: _print(_escape(words))), True


def _confirmed(name):
    if not (_for_people() and sys.stdin.isatty()):
        raise errors.RequestError(f"destroy: nobody can be asked here; say yes=True to remove {name}")
    return input(f"Type the cluster's name to remove it [{name}]: ").strip() == name
