"""What an operator, a reactor or the sweep can ask for about reconciling: look, do it, wait for it, pause it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from managed_k8s import names
from managed_k8s.cluster import Cluster
from managed_k8s.config import load
from managed_k8s.errors import RequestError
from managed_k8s.model.steps import Step
from managed_k8s.operations.clusters import choose
from managed_k8s.plan import plan as make_plan
from managed_k8s.plan import waiting as make_waiting
from managed_k8s.reconcile import reconciler
from managed_k8s.reconcile.reconciler import STATE, Outcome, failed_look
from managed_k8s.state import immutable_settings, queue
from managed_k8s.state.change_requests import LEFT_MAP, Intent
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from managed_k8s.status.live import Scene
from managed_k8s.status.status import words

# A cluster that was as it should be is looked at again after this long without an event.
SETTLED_LOOK = 300


@dataclasses.dataclass(frozen=True)
class Situation:
    """What is to be done for a cluster, and what it waits for."""

    cluster: str
    steps: list[Step]
    waiting: list[str]

    @property
    def ready(self) -> bool:
        """Tell whether the cluster is as it should be."""
        return not self.steps and not self.waiting


def look(opts: Mapping[str, Any], cluster: str | None) -> Situation:
    """Look at a cluster, without changing it. Raises InvalidError and what cannot be reached."""
    found = Cluster(opts, choose(opts, cluster))
    seen = found.observer().look()
    desired, observed = seen.desired, seen.observed
    return Situation(found.name, make_plan(desired, observed), make_waiting(desired, observed))


def leaving(opts: Mapping[str, Any], cluster: str | None) -> tuple[str, dict[str, str | None]]:
    """Return the cluster, and its servers that are not in cluster.map any more: name -> id."""
    found = Cluster(opts, choose(opts, cluster))
    wanted, intent = {node.id for node in found.nodes}, Intent(found.store)
    servers: dict[str, str | None] = {name: str(server["id"]) for name, server in found.cloud.servers().items()}
    known = servers | {name: None for name in intent.servers() if name not in servers}
    condemned = intent.condemned()
    gone = {name: server for name, server in known.items() if name not in wanted and name not in condemned}
    return found.name, gone


def reconcile(
    opts: Mapping[str, Any], cluster: str | None, remove: Mapping[str, str | None] | None = None
) -> dict[str, Any]:
    """Bring a cluster to what it should be, here and now, or leave it to the reconciler that is at it.

    Servers of the map that are missing are made. remove: those that left the map and may be removed, from leaving().
    """
    name = choose(opts, cluster)
    immutable_settings.checked(opts, name)
    store = Store.of(opts, name)
    _note_wishes(opts, name, store, remove or {})
    queue.Inbox(store).put(name, "an operator asked")
    outcome = run(opts, name)
    if outcome is None:
        return {"cluster": name, "busy": True, "ready": False, "steps": [], "waiting": []}
    steps = [words(step) for step in outcome.steps]
    return {"cluster": name, "busy": False, "ready": outcome.ready, "steps": steps, "waiting": outcome.waiting}


def _note_wishes(opts: Mapping[str, Any], name: str, store: Store, remove: Mapping[str, str | None]) -> None:
    found, intent = Cluster(opts, name), Intent(store)
    wanted, servers = {node.id for node in found.nodes}, found.cloud.servers()
    intent.ask([node for node in wanted if node not in servers])
    if remove:
        intent.condemn(remove, LEFT_MAP)
    # What is in the map again stays.
    back = [node for node, entry in intent.condemned().items() if entry["why"] == LEFT_MAP and node in wanted]
    if back:
        intent.pardon(back)


def pause(opts: Mapping[str, Any], cluster: str | None, reason: str) -> dict[str, Any]:
    """Have the reconciler begin nothing until resume(); what runs already ends."""
    name = choose(opts, cluster)
    store = Store.of(opts, name)
    Intent(store).pause(reason)
    History(store, opts).add("cluster", "paused", reason)
    return {"cluster": name, "paused": Intent(store).paused()}


def resume(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Undo pause(), and have the cluster looked at."""
    name = choose(opts, cluster)
    store = Store.of(opts, name)
    was = Intent(store).paused()
    Intent(store).resume()
    if was:
        History(store, opts).add("cluster", "resumed", f"it was {was}")
    enqueue(opts, name, "resumed")
    return {"cluster": name, "changed": bool(was)}


def enqueue(opts: Mapping[str, Any], subject: object, reason: object) -> dict[str, Any]:
    """Have a cluster looked at.

    subject: one of its minion ids, or its name. It comes from events: what names no cluster with settings is ignored.
    """
    node = names.parse(subject) if isinstance(subject, str) else None
    name = node.cluster if node else subject
    if not isinstance(name, str) or name not in load.clusters(opts):
        return {"cluster": None}
    queue.enqueue(opts, Store.of(opts, name), str(subject), str(reason))
    return {"cluster": name}


def sweep(opts: Mapping[str, Any], now: float | None = None) -> dict[str, Any]:
    """Have every cluster looked at that is not known to be as it should be, or was not looked at for minutes.

    One without servers or wishes is left alone: nothing was asked for yet.
    """
    now = time.time() if now is None else now
    looked = []
    for name in load.clusters(opts):
        store = Store.of(opts, name)
        state = store.read(STATE)
        started = state is not None or store.read("infra.json") is not None or not queue.Inbox(store).is_empty()
        settled = state is not None and state["ready"] and now - state["time"] < SETTLED_LOOK
        settled = settled and failed_look(store, History(store)) is None
        if started and not settled and not queue.is_held(store):
            queue.enqueue(opts, store, name, "sweep")
            looked.append(name)
    return {"clusters": looked}


def wait(
    opts: Mapping[str, Any], cluster: str | None, seconds: float, poll: float = 1
) -> Iterator[dict[str, Any] | None]:
    """Yield what happens to a cluster until it is as it should be; None when nothing happens for a moment.

    Raises RequestError after `seconds`, with what is still missing.
    """
    name = choose(opts, cluster)
    immutable_settings.checked(opts, name)
    store = Store.of(opts, name)
    begun = time.time()
    entries = History(store).follow()
    enqueue(opts, name, "an operator waits")
    while True:
        entry = next(entries)
        yield entry
        if entry is not None:
            continue
        state = store.read(STATE) or {}
        if state.get("ready") and state["time"] >= begun and not queue.is_held(store):
            return
        if time.time() - begun > seconds:
            raise RequestError(
                f"{name} is not ready after {seconds:.0f} seconds. Still missing:\n"
                + "\n".join(f"- {sentence}" for sentence in _missing(state, History(store)))
            )
        time.sleep(poll)


def _missing(state: Mapping[str, Any], history: History) -> list[str]:
    missing = [*state.get("waiting", []), *(step["description"] for step in state.get("steps", []))]
    return missing or [entry["reason"] for entry in history.last(1)] or ["the first look has not ended"]


def scene(opts: Mapping[str, Any], cluster: str | None, entries: Iterable[Mapping[str, Any]]) -> Scene:
    """Return what a picture of the cluster shows, from what the reconciler left in the store; nobody else is asked.

    entries: the newest of the history, oldest first.
    """
    store = Store.of(opts, choose(opts, cluster))
    state, attempts = store.read(STATE) or {}, store.read("attempts.json") or {}
    if "servers" not in state:
        # A reconciler of an older tree wrote it.
        state = {}
    return Scene(store.cluster, state, attempts, [*entries], queue.is_held(store), time.time())


def run(opts: Mapping[str, Any], cluster: str) -> Outcome | None:
    """Bring a cluster to what it should be, as far as that is possible now; None when another process is at it.

    Raises InvalidError when settings, map or profiles are wrong: nothing is done then.
    """
    # Made anew each time: settings and map may have changed with the request.
    return reconciler.reconcile(Store.of(opts, cluster), lambda: Cluster(opts, cluster).reconciler())
