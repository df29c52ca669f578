"""What an operator can ask about a cluster, as plain functions; the runner is their face."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock

from managed_k8s import names
from managed_k8s.cluster import Cluster
from managed_k8s.config import load
from managed_k8s.config.settings import InvalidError
from managed_k8s.errors import RequestError
from managed_k8s.operations import backup as backing_up
from managed_k8s.operations import reconcile
from managed_k8s.operations.clusters import choose
from managed_k8s.reconcile.reconciler import STATE
from managed_k8s.state import queue
from managed_k8s.state.history import FILE, History
from managed_k8s.state.store import Store
from managed_k8s.status import collect, history_view, metrics
from managed_k8s.status import diagram as drawing
from managed_k8s.status import status as composing

# The picture in the store, and the lock of whoever writes metrics.
DIAGRAM, LOCK = "diagram.svg", "metrics.lock"
# More than a history ever has.
_ALL = 1_000_000


def status(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Return what there is, what is wrong, and what happens next and when. Raises InvalidError."""
    return composing.status(collect.look(Cluster(opts, choose(opts, cluster))))


def plan(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Return what the reconciler would do now and when, and what it waits for. Raises what reconcile.look() does."""
    situation = reconcile.look(opts, cluster)
    world = collect.on_record(Cluster(opts, situation.cluster))
    return {
        "cluster": situation.cluster,
        "ready": situation.ready,
        "time": world.now,
        "paused": world.paused,
        "steps": [composing.words(step) for step in situation.steps],
        "waiting": situation.waiting,
        "upcoming": composing.timeline(world, situation.steps),
    }


def history(
    opts: Mapping[str, Any], cluster: str | None, node: str | None, since: str | int | None, last: int
) -> dict[str, Any]:
    """Return what was done, oldest first.

    node: a server, `cluster` or `backup`; None: all. since: as past.since() takes it. last: at most so many, the
    newest; beside what was done these are the events, as they were announced. Raises RequestError.
    """
    parsed = names.parse(node) if node else None
    store = Store.of(opts, choose(opts, cluster or (parsed.cluster if parsed else None)))
    try:
        after = history_view.since(_clock(since), time.time()) if since is not None else 0
    except ValueError as error:
        raise RequestError(str(error)) from None
    entries = History(store).last(_ALL)
    known = sorted({entry["subject"] for entry in entries if entry["what"] != "progress"})
    if node is not None and parsed is None and node not in known:
        raise RequestError(f"node: nothing was ever done to {node!r}; there are {', '.join(known) or 'none yet'}")
    state = (store.read(STATE) or {}) if queue.is_held(store) else {}
    running = {step["id"] for step in state.get("running", [])}
    rows = history_view.done(entries, running, node, after)
    shown = rows[-last:] if last > 0 else []
    events = entries[-last:] if last > 0 else []
    return {"cluster": store.cluster, "done": shown, "events": events, **history_view.summary(rows)}


def follow(opts: Mapping[str, Any], cluster: str, last: int) -> Iterator[dict[str, Any]]:
    """Yield the last events of a cluster, and for ever what happens to it."""
    for entry in History(Store.of(opts, cluster)).follow(last):
        if entry is None:
            time.sleep(0.5)
        else:
            yield entry


def _clock(since: str | int) -> str:
    # Salt reads arguments as YAML, which takes 14:00 for a number of base 60.
    return f"{since // 60:02}:{since % 60:02}" if isinstance(since, int) else str(since)


def check(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Return what is wrong with a cluster, for monitoring: from what is on record, so it is quick and asks nobody."""
    found = Cluster(opts, choose(opts, cluster))
    world = collect.on_record(found)
    waiting = [] if world.state.get("ready") else world.state.get("waiting", [])
    problems = [*backing_up.check(opts, found.name)["problems"], *waiting, *composing.status(world)["wrong"]]
    # Those of backups are among both.
    said = {f"backups: {problem}" for problem in problems}
    return {"cluster": found.name, "problems": [*dict.fromkeys(one for one in problems if one not in said)]}


def diagram(opts: Mapping[str, Any], cluster: str | None, out: str | None) -> dict[str, Any]:
    """Draw a cluster as it is; return where the picture is.

    out: a file; None: one in the cluster's folder. Raises RequestError, InvalidError.
    """
    found = Cluster(opts, choose(opts, cluster))
    target = _target(out) if out else found.store.path(DIAGRAM)
    data = composing.status(collect.look(found))
    _publish(target, drawing.draw(data))
    return {"cluster": found.name, "path": str(target), "ready": data["ready"]}


def measure(opts: Mapping[str, Any], cluster: str | None, out: str | None) -> dict[str, Any]:
    """Return a cluster's metrics as text in Prometheus's format; write them to a file, if one is given.

    out: a file whose name ends in .prom. Raises RequestError, InvalidError.
    """
    found = Cluster(opts, choose(opts, cluster))
    target = _target(out) if out else None
    text = metrics.text(composing.status(collect.look(found)))
    if target:
        _publish(target, text)
    return {"cluster": found.name, "path": str(target) if target else None, "text": text}


def publish(opts: Mapping[str, Any], cluster: str) -> None:
    """Write a cluster's metrics where the settings want them, unless somebody does already. Raises InvalidError."""
    found = Cluster(opts, cluster)
    file = found.settings.metrics.file
    try:
        with filelock.FileLock(found.store.path(LOCK), mode=0o600).acquire(blocking=False):
            if file:
                measure(opts, cluster, file)
    except filelock.Timeout:
        return


def sweep(opts: Mapping[str, Any]) -> dict[str, Any]:
    """Have the metrics written of all clusters that want them, each by a process of its own: looking takes a while.

    Those of a cluster that was removed are removed, or its last state would be told for ever.
    """
    started = []
    for name in load.clusters(opts):
        store = Store.of(opts, name)
        try:
            wanted = load.load(opts, name).metrics.file
        except InvalidError:
            # The reconciler says so.
            continue
        if not wanted:
            continue
        if not (store.folder / FILE).exists():
            _withdraw(Path(wanted), name)
        elif not queue.is_held(store, LOCK):
            queue.start(opts, store, "metrics")
            started.append(name)
    return {"clusters": started}


def _withdraw(file: Path, cluster: str) -> None:
    with contextlib.suppress(OSError):
        if metrics.mark(cluster) in file.read_text():
            file.unlink()


def _target(out: str) -> Path:
    target = Path(out).expanduser()
    if not target.parent.is_dir():
        raise RequestError(f"{target}: folder {target.parent} does not exist; make it, or choose another")
    if target.is_dir():
        raise RequestError(f"{target} is a folder; name a file in it")
    return target


def _publish(target: Path, text: str) -> None:
    """Write a file that everybody may read, whole or not at all; there is no secret in it."""
    # The name's end keeps node_exporter from reading it before it is whole.
    handle, part = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "w") as file:
            os.fchmod(handle, 0o644)
            file.write(text)
        Path(part).replace(target)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise
