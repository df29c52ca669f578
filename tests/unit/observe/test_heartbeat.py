"""Noticing that a server fell silent, and what a look makes of it; and what events can do, whoever sends them."""

import importlib.util
import json
import socket
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from managed_k8s import names
from managed_k8s.model.cluster import Facts
from managed_k8s.model.membership import Member
from managed_k8s.observe import health, health_signals, heartbeat
from managed_k8s.operations import reconcile as reconciling
from managed_k8s.state import queue
from managed_k8s.state.history import History
from managed_k8s.state.store import Store

ROOT = Path(__file__).resolve().parents[3]
NODES = [names.Node("demo", role, 1) for role in names.ROLES]
SERVERS = {node.id: {"id": f"id of {node.id}", "status": "ACTIVE", "pending": False} for node in NODES}
KNOWN = [node.id for node in NODES]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "demo")


@pytest.fixture
def watching(store):
    return heartbeat.Watch(store, History(store))


def events(store):
    return [(entry["subject"], entry["what"]) for entry in History(store).last(50)]


def test_a_lease_that_is_not_renewed_is_a_silent_kubelet(store, watching):
    for now in range(0, 60, 5):
        watching.look({"demo-worker-1": "a", "demo-master-1": str(now)}, 100 + now)
    assert events(store) == [("demo-worker-1", "silent")]
    assert store.read(health_signals.SILENT) == {"demo-worker-1": {"since": 100, "lease": "a"}}
    watching.look({"demo-worker-1": "b", "demo-master-1": "x"}, 170)
    assert events(store)[1:] == [("demo-worker-1", "heard")]
    assert store.read(health_signals.SILENT) == {}


def test_a_gateway_is_heard_whenever_it_answers(store, watching):
    for now, answers in enumerate(["", "", None, None, None, None, None, None]):
        watching.look({"demo-gateway-1": answers}, 100 + 5 * now)
    assert events(store) == [("demo-gateway-1", "silent")]
    assert store.read(health_signals.SILENT)["demo-gateway-1"]["since"] == 105
    watching.look({"demo-gateway-1": ""}, 200)
    assert events(store)[-1] == ("demo-gateway-1", "heard")


def test_while_the_api_is_silent_nobody_is(store, watching):
    watching.look({"demo-worker-1": "a"}, 100)
    watching.look(None, 110)
    watching.look({"demo-worker-1": "a"}, 150)
    watching.look({"demo-worker-1": "a"}, 170)
    assert events(store) == []
    watching.look({"demo-worker-1": "a"}, 175)
    assert events(store) == [("demo-worker-1", "silent")]


def test_a_watch_that_is_started_anew_goes_on(store, watching):
    for now in (100, 130):
        watching.look({"demo-worker-1": "a"}, now)
    heartbeat.Watch(store, History(store)).look({"demo-worker-1": "a"}, 140)
    assert store.read(health_signals.SILENT)["demo-worker-1"]["since"] == 100
    heartbeat.Watch(store, History(store)).look({}, 150)
    assert events(store) == [("demo-worker-1", "silent"), ("demo-worker-1", "heard")]


def test_before_there_is_an_api_there_are_no_leases(watching):
    assert watching.signs_of_life() == {}


# What a look makes of it


def collect(kubernetes, minions=KNOWN, ports=None, full=None, silent=None, members=None, servers=SERVERS):
    facts = dict.fromkeys(minions, Facts())
    found = health_signals.collect(
        NODES, servers, facts, KNOWN, kubernetes, members, ports or {}, full or {}, silent or {}
    )
    return {one.name: one for one in found}


def node(**changes):
    return {"ready": True, "lease": "a", "disk_pressure": False} | changes


def test_what_is_well_is_well_to_all():
    found = collect({"demo-worker-1": node(), "demo-master-1": node()}, ports={"demo-gateway-1": True})
    assert {one.outside for one in found.values()} == {""}


@pytest.mark.parametrize(
    ("state", "note", "words", "heard"),
    [
        (node(ready=False), None, "Kubernetes says that it is not Ready", None),
        (node(), {"since": 5, "lease": "a"}, "its kubelet is silent", 5),
        (node(ready=False), {"since": 5, "lease": "a"}, "Kubernetes says that it is not Ready", 5),
        (node(), {"since": 5, "lease": "older"}, "", None),
        (node(disk_pressure=True), None, "Kubernetes says that its disk is full", None),
        (None, {"since": 5, "lease": "a"}, None, None),
    ],
)
def test_what_kubernetes_says_of_a_worker(state, note, words, heard):
    found = collect({"demo-worker-1": state} if state else {}, silent={"demo-worker-1": note} if note else {})
    assert (found["demo-worker-1"].outside, found["demo-worker-1"].heard) == (words, heard)


@pytest.mark.parametrize(
    ("pressure", "free", "says", "found"),
    [
        (True, 0.14, (), ("low_disk",)),
        (True, 0.14, ("kubelet",), ("kubelet", "low_disk")),
        (True, 0.04, ("disk",), ("disk",)),
        (True, 0.15, (), ()),
        (True, None, (), ()),
        (False, 0.06, (), ()),
    ],
)
def test_a_disk_that_is_rather_full_counts_when_kubernetes_calls_it_full(pressure, free, says, found):
    facts = {"demo-worker-1": Facts(ailments=says, disk_free=free)}
    kubernetes = {"demo-worker-1": node(disk_pressure=pressure)}
    (one,) = health_signals.collect(NODES[-1:], SERVERS, facts, KNOWN, kubernetes, None, {}, {}, {})
    assert one.name == "demo-worker-1"
    assert one.ailments == found


def test_an_ill_etcd_is_an_ill_master():
    members = [Member("1", "demo-master-1", healthy=False)]
    found = collect({"demo-master-1": node()}, members=members)
    assert found["demo-master-1"].outside == "the other masters say that its etcd is ill"


def test_of_a_silent_gateway_it_is_known_since_when():
    found = collect({}, ports={"demo-gateway-1": False}, silent={"demo-gateway-1": {"since": 7, "lease": ""}})
    assert found["demo-gateway-1"].outside == "it takes no connections for the API"
    assert found["demo-gateway-1"].heard == 7


@pytest.mark.parametrize(
    ("port", "full", "words"),
    [
        (True, True, "SSH says that its disk is full"),
        (True, False, ""),
        (True, None, ""),
        (False, True, "it takes no connections for the API"),
        (None, True, None),
    ],
)
def test_what_is_heard_of_a_gateways_disk(port, full, words):
    asked = {name: {"demo-gateway-1": answer} for name, answer in {"ports": port, "full": full}.items()}
    assert collect({}, **asked)["demo-gateway-1"].outside == words


def test_gateways_that_serve_are_asked_for_their_disk_only_when_something_speaks_for_it():
    facts = {
        "g1": Facts(),
        "g2": Facts(ailments=("disk",)),
        "g3": Facts(ailments=("haproxy",)),
        "g4": Facts(ailments=("disk",)),
    }
    ports = {"g1": True, "g2": True, "g3": True, "g4": False, "g5": True}
    assert health.doubted(ports, facts) == ["g2", "g5"]


def test_what_is_not_complete_or_never_worked_is_not_judged():
    pending = {**SERVERS, "demo-worker-1": {**SERVERS["demo-worker-1"], "pending": True}}
    assert "demo-worker-1" not in collect({}, servers=pending)
    assert health_signals.collect(NODES, SERVERS, {}, [], {}, None, {}, {}, {}) == []


def test_a_gateways_port_is_asked(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(health, "API_PORT", server.getsockname()[1])
        servers = {"g1": {"floating_ip": "127.0.0.1"}, "g2": {"floating_ip": None}}
        assert health.ports(["g1", "g2", "g3"], servers) == {"g1": True}
    assert health.ports(["g1"], servers) == {"g1": False}


# Events


@pytest.fixture
def opts(tmp_path):
    (tmp_path / "pillar" / "clusters").mkdir(parents=True)
    (tmp_path / "pillar" / "clusters" / "demo.sls").write_text("managed_k8s: {}\n")
    folders = {"checkout": str(tmp_path), "state": str(tmp_path / "state")}
    return {"managed_k8s": folders, "conf_file": str(tmp_path / "master"), "root_dir": str(tmp_path / "state")}


# What a minion that somebody took over may send under any tag: the master stamps no more than the id of some.
FORGED: list[Any] = [
    {},
    {"id": "demo-worker-1", "ailments": ["kubelet"]},
    {"id": "demo-master-1", "ailments": ["etcd"], "kind": "replace", "reason": "x" * 10000},
    {"id": "$(touch /tmp/x)", "reason": "{{ salt['cmd.run']('id') }}\n- run: this"},
    {"id": "demo-master-1\n    - reason: y\nElse:\n  runner.managed_k8s.destroy:\n    - args:\n      - yes: True"},
    {"id": ["demo-master-1"], "reason": {"a": 1}},
    {"id": None},
]
TAGS = [
    "salt/minion/demo-worker-1/start",
    "managed_k8s/minion/prepared",
    "salt/cloud/demo-master-1/destroyed",
    "salt/beacon/demo-master-1/managed_k8s_node/",
    "managed_k8s/demo/demo-master-1/silent",
    "managed_k8s/demo/demo-master-1/heard",
    "managed_k8s/demo/cluster/given_up",
    'managed_k8s/demo/"]}}\n  x: y/silent',
    "salt/beacon/a\nElse:\n  runner.managed_k8s.destroy: []/managed_k8s_node/",
]


def reactions(tag, data):
    """Return what the Salt master does about an event: (function, arguments) of each reaction."""
    import fnmatch

    mapped = yaml.safe_load((ROOT / "master.d" / "managed-k8s.conf").read_text())["reactor"]
    for pattern, (file,) in (pair for entry in mapped for pair in entry.items()):
        if not fnmatch.fnmatch(tag, pattern):
            continue
        environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 (nothing here is HTML)
        environment.filters.setdefault("json", json.dumps)
        environment.filters["json"] = json.dumps
        text = environment.from_string((ROOT / "salt" / file.removeprefix("salt://")).read_text()).render(
            tag=tag, data=data
        )
        for state in yaml.safe_load(text).values():
            ((function, words),) = state.items()
            yield function, {key: value for word in words[0]["args"] for key, value in word.items()}


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("data", FORGED)
def test_an_event_of_whatever_content_makes_nobody_do_more_than_look(opts, tag, data, monkeypatch):
    started: list[Any] = []
    monkeypatch.setattr(queue, "start", lambda opts, store, what="reconcile": started.append((store.cluster, what)))
    try:
        found = list(reactions(tag, data))
    except jinja2.UndefinedError:
        # No id: Salt logs it, and nothing happens.
        found = []
    for function, arguments in found:
        assert function == "runner.managed_k8s.enqueue"
        assert arguments.keys() == {"id", "reason"}
        reconciling.enqueue(opts, arguments["id"], arguments["reason"])
    assert set(started) <= {("demo", "reconcile")}
    store = Store.of(opts, "demo")
    written = {path.name for path in store.folder.rglob("*") if path.is_file()} if store.folder.exists() else set()
    notes = queue.Inbox(store).take()
    assert written - {"reconcile.lock", "reconcile.started"} <= {path for path in written if path[0].isdigit()}
    assert all(note.keys() == {"id", "reason"} and len(note["reason"]) <= 200 for note in notes)


def test_the_beacon_says_what_changed():
    path = ROOT / "_beacons" / "managed_k8s_node.py"
    spec = importlib.util.spec_from_file_location("beacon", path)
    assert spec
    assert spec.loader
    beacon: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(beacon)
    answers = iter([[], ["kubelet"], ["kubelet"], []])
    beacon.__salt__ = {"managed_k8s_facts.ailments": lambda: next(answers)}
    assert beacon.validate([{"interval": 10}])[0]
    assert not beacon.validate({})[0]
    assert [beacon.beacon([]) for _ in range(4)] == [[], [{"ailments": ["kubelet"]}], [], [{"ailments": []}]]
