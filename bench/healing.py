"""How long it takes until a server that lost its power is well again, and until one that is gone is made anew."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from bench.report import Details, Figures, Row
from bench.setting import BenchError, Setting
from managed_k8s import names
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.model.steps import CREATE, JOIN, KINDS
from managed_k8s.operations import reconcile as reconciling
from managed_k8s.state import healing
from managed_k8s.state.history import History

# Promised: as long as it takes to notice, so many creations, and for masters so many seconds more.
CREATIONS, MASTER_SECONDS = 1.2, 60
# Seconds.
_LIMIT, _POLL = 1200, 1
_ALL = 1000
_JOINED, _HEALED = KINDS[JOIN].event, "healed"


@dataclasses.dataclass(frozen=True)
class Case:
    """Something that is measured. words: for its line."""

    name: str
    role: str
    words: str


CASES = (
    Case("worker_power", names.WORKER, "worker loses power, until it is well again (started or rebooted)"),
    Case("worker_gone", names.WORKER, "worker's server deleted, until its replacement is Ready"),
    Case("master_power", names.MASTER, "master loses power, until {masters} of {masters} members are well again"),
    Case(
        "master_gone",
        names.MASTER,
        "master's server deleted, until its replacement is Ready, {masters} of {masters} members",
    ),
)


def measure(setting: Setting) -> Figures:
    """Replace a worker on request, then make a worker and a master fail in both ways. Raises BenchError."""
    if not reconciling.look(setting.opts, setting.cluster.name).ready:
        raise BenchError("the cluster is not as it should be, so nothing is broken in it: salt-run managed_k8s.status")
    victims = {role: _last(setting, role) for role in (names.WORKER, names.MASTER)}
    masters = sum(node.role == names.MASTER for node in setting.cluster.nodes)
    if masters < 3:
        raise BenchError(f"{setting.cluster.name} has {masters} master: it does not survive the loss of one")
    rules = setting.cluster.settings.healing
    found: dict[str, Any] = {
        "masters": masters,
        "noticed": {role: rules.of(role).after_seconds for role in victims},
        "creation": _creation(setting, victims[names.WORKER]),
    }
    for case in CASES:
        ways: dict[str, Callable[[Setting, str], dict[str, Any]]] = {"power": _power, "gone": _gone}
        found[case.name] = ways[case.name.partition("_")[2]](setting, victims[case.role])
    return found


def _last(setting: Setting, role: str) -> str:
    return max(node for node in setting.cluster.nodes if node.role == role).id


def _creation(setting: Setting, name: str) -> dict[str, Any]:
    """Return how long a worker takes from the beginning of its making until it is Ready, when nothing is wrong."""
    asked = time.time()
    setting.run("salt-run", "managed_k8s.replace", name)
    begun = _await(setting, name, "begun", asked, step=f"{CREATE}:{name}")
    ready = _ready_after_joining(setting, name, asked)
    return _measured(setting, name, begun, ready)


def _power(setting: Setting, name: str) -> dict[str, Any]:
    _forget(setting)
    begun = time.time()
    try:
        setting.run("python", "-m", "lab", "fault", "power-loss", name)
        healed = _await(setting, name, _HEALED, begun)
        # That it listens again is not that all members are well.
        ended = _ready(setting, name) if names.is_master(name) else healed
    finally:
        # One that runs again stays as it is.
        setting.run("python", "-m", "lab", "fault", "undo", "power-loss", name)
    return _measured(setting, name, begun, ended)


def _gone(setting: Setting, name: str) -> dict[str, Any]:
    _forget(setting)
    begun = time.time()
    cloud = setting.cluster.cloud
    cloud.connection.compute.delete_server(cloud.servers()[name]["id"])
    return _measured(setting, name, begun, _ready_after_joining(setting, name, begun))


def _forget(setting: Setting) -> None:
    """Forget what was tried before, so that no limit stands in the way."""
    setting.cluster.store.remove(healing.FILE)


def _measured(setting: Setting, name: str, begun: float, ended: float) -> dict[str, Any]:
    """Return the figures, once the cluster is as it should be again."""
    setting.run("salt-run", "managed_k8s.wait", setting.cluster.name, f"timeout={_LIMIT}")
    done = [
        [entry["what"], round(entry["time"] - begun, 1)]
        for entry in History(setting.cluster.store).last(_ALL)
        if entry["subject"] == name and entry["time"] >= begun and entry["what"] not in ("begun", "progress")
    ]
    return {"server": name, "seconds": round(ended - begun, 1), "done": done}


def _await(setting: Setting, name: str, what: str, since: float, step: str = "") -> float:
    """Return when something happened to a server. Raises BenchError when it does not."""

    def look() -> float | None:
        entries = (e for e in History(setting.cluster.store).last(_ALL) if e["time"] >= since)
        wanted = (e for e in entries if (e["subject"], e["what"]) == (name, what) and step in ("", e.get("step")))
        return next((float(entry["time"]) for entry in wanted), None)

    return _until(look, f"{name}: not {what} within {_LIMIT} s; see salt-run managed_k8s.history")


def _ready_after_joining(setting: Setting, name: str, since: float) -> float:
    """Return when a server has joined and is Ready. Raises BenchError when it does not."""
    _await(setting, name, _JOINED, since)
    return _ready(setting, name)


def _ready(setting: Setting, name: str) -> float:
    """Return when a node is Ready, and if it is a master's, every member of etcd. Raises BenchError when it is not."""

    def look() -> float | None:
        api = setting.cluster.kube.connect()
        nodes = kube_nodes.nodes(api)
        ready = nodes.get(name, {}).get("ready")
        if ready and names.is_master(name):
            members = kube_nodes.etcd_members(kube_nodes.control_plane(api))
            ready = all(members.get(node) for node, state in nodes.items() if state["role"] == names.MASTER)
        return time.time() if ready else None

    return _until(look, f"{name} is not Ready within {_LIMIT} s, or etcd is not whole; see salt-run managed_k8s.status")


def _until(look: Callable[[], float | None], problem: str) -> float:
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    end = time.monotonic() + _LIMIT
    while time.monotonic() < end:
        try:
            found = look()
        except (ApiException, HTTPError, OSError):
            found = None
        if found is not None:
            return found
        time.sleep(_POLL)
    raise BenchError(problem)


def rows(figures: Figures) -> list[Row]:
    """Return the lines of the main table."""
    creation = figures["creation"]["seconds"]
    found = [Row("creation of one worker, from the request for its server to Ready", f"{creation:.1f} s")]
    for case in CASES:
        noticed = figures["noticed"][case.role]
        more = MASTER_SECONDS if case.role == names.MASTER else 0
        limit, seconds = noticed + CREATIONS * creation + more, figures[case.name]["seconds"]
        words = f"{limit:.0f} s: {noticed} s + {CREATIONS} x creation{f' + {more} s' if more else ''}"
        found.append(Row(case.words.format(masters=figures["masters"]), f"{seconds:.1f} s", words, seconds <= limit))
    return found


def details(figures: Figures) -> list[Details]:
    """Return a table of what was done each time."""
    lines = [
        [f"{case.words.partition(',')[0]} ({figures[case.name]['server']})", _done(figures[case.name]["done"])]
        for case in CASES
    ]
    return [Details("Healing, what happened after how many seconds", ("what was done",), lines)]


def _done(done: list[list[Any]]) -> str:
    return ", ".join(f"{what} {seconds:.0f}" for what, seconds in done)
