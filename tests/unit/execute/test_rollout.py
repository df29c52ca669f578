"""Running the steps of a rollout, against minions and an API that note what they were asked."""

import dataclasses
from typing import Any

import pytest

from managed_k8s.execute import rollout
from managed_k8s.execute.common import StepError
from managed_k8s.execute.rollout import Rolling
from managed_k8s.minions.jobs import Answer, JobError
from managed_k8s.model.cluster import Desired, Facts, Observed, Snapshot
from managed_k8s.model.rollout import Rollout, Versions
from managed_k8s.model.steps import KUBELET, MAINTAIN, RENEW, UPGRADE
from managed_k8s.state.rollout import Record
from managed_k8s.state.store import Store
from tests.support.settings import settings

OLD, NEW = "1.36.3", "1.37.2"
MASTER, WORKER, GATEWAY = "demo-master-1", "demo-worker-1", "demo-gateway-1"
MEMBERS = [{"id": "1", "healthy": True}]


class Parts:
    """Minions and API in one; `done` is what they were asked, in order."""

    def __init__(self, store):
        self.record, self.done = Record(store), []
        self.answers: dict[str, Any] = {"members": MEMBERS, "saltutil.is_running": []}
        self.boots = ["before", None, "after"]
        self.ailments: list[list[str]] = [["haproxy", "keepalived"], ["keepalived"], []]
        self.seen: dict[str, Any] = {}

    def run(self, minion, function, *args, limit, **kwargs):
        name = function.rpartition(".")[2] if function.startswith("managed_k8s_") else function
        self.seen[name] = (self.record.begun(), self.record._store.read("rolling.json"))
        if name not in ("saltutil.is_running", "members"):
            self.done.append((name, *args))
        answer = self.answers.get(name)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def ask(self, minions, function, *args, limit, expected=()):
        if function == "managed_k8s_facts.ailments":
            return {name: Answer(self.ailments.pop(0), ok=True) for name in minions}
        value = self.boots.pop(0) if len(self.boots) > 1 else self.boots[0]
        return {name: Answer(value, ok=True) for name in minions if value}

    def empty(self, node, limit, say):
        self.done.append(("empty", limit))

    def fill(self, node):
        self.done.append(("fill",))

    def await_node(self, node, wanted, limit):
        self.done.append(("await", wanted))


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path, "demo")
    made.path("x")
    return made


@pytest.fixture
def parts(store):
    return Parts(store)


@pytest.fixture
def run(store, parts, monkeypatch):
    monkeypatch.setattr(rollout, "_INTERVAL", 0)

    def do(kind, name, rollout=None, boot="before"):
        versions = Versions(OLD, {MASTER: OLD}, {MASTER: OLD, WORKER: OLD})
        found = rollout or Rollout(target=NEW, versions=versions)
        look = Snapshot(Desired("demo", (), {}, "", ""), Observed({}, {name: Facts(boot=boot)}, rollout=found))
        parts: Any = made
        rolling = Rolling(store, settings(), parts, parts, lambda subject, words: None)
        rolling.actions()[kind](name, look)

    made = parts
    return do


@pytest.mark.parametrize(("config", "first"), [(OLD, True), (NEW, False)])
def test_the_first_control_plane_upgrades_the_cluster_too(run, parts, config, first):
    run(UPGRADE, MASTER, Rollout(target=NEW, versions=Versions(config, {MASTER: OLD}, {MASTER: OLD})))
    assert parts.done == [("control_plane", NEW, first)]
    assert parts.seen["control_plane"][0] == {MASTER: UPGRADE}, "on record before it begins"
    assert parts.record.begun() == {}


def test_a_control_plane_that_failed_stays_on_record(run, parts):
    parts.answers["control_plane"] = JobError("no")
    with pytest.raises(JobError):
        run(UPGRADE, MASTER)
    assert parts.record.begun() == {MASTER: UPGRADE}


def test_a_control_plane_is_done_once_etcd_is_whole(run, parts, monkeypatch):
    monkeypatch.setattr(rollout, "_ETCD", 0)
    parts.answers["members"] = [{"id": "1", "healthy": False}]
    with pytest.raises(StepError, match="not every member of etcd is healthy"):
        run(UPGRADE, MASTER)
    assert parts.record.begun() == {MASTER: UPGRADE}


def test_nothing_begins_beside_what_a_killed_reconciler_left_running(run, parts):
    parts.answers["saltutil.is_running"] = [{"fun": "managed_k8s_upgrade.control_plane"}]
    with pytest.raises(StepError, match="still running"):
        run(UPGRADE, MASTER)
    assert parts.done == []
    assert parts.record.begun() == {}


def test_a_kubelet_is_exchanged_on_an_empty_node(run, parts, store):
    store.write("versions.json", {"config": NEW, "control_plane": NEW, "nodes": {WORKER: OLD}})
    run(KUBELET, WORKER)
    assert parts.done == [
        ("empty", 300), ("state.apply",), ("kubelet", NEW), ("await", {"version": NEW}), ("fill",),
    ]  # fmt: skip
    assert parts.seen["state.apply"][1]["turn"] == [WORKER]
    assert store.read("rolling.json") == {"begun": {}, "turn": []}
    assert store.read("versions.json")["nodes"] == {WORKER: NEW}


def test_a_node_whose_pods_do_not_leave_keeps_its_version(run, parts, store):
    def fails(node, limit, say):
        raise OSError("the API is away")

    parts.empty = fails
    with pytest.raises(OSError, match="away"):
        run(KUBELET, WORKER)
    assert store.read("rolling.json") == {"begun": {WORKER: KUBELET}}
    assert parts.done == []


def test_a_kubelet_that_was_exchanged_is_only_uncordoned(run, parts):
    found = Rollout(target=NEW, versions=Versions(NEW, {}, {WORKER: NEW}), begun={WORKER: KUBELET})
    run(KUBELET, WORKER, found)
    assert parts.done == [("await", {"version": NEW}), ("fill",)]


def test_a_worker_is_rebooted_when_it_is_empty(run, parts):
    parts.record.ask_maintenance({WORKER: "before"}, packages=True)
    run(MAINTAIN, WORKER)
    assert parts.done == [
        ("empty", 300), ("packages",), ("reboot",), ("await", {"not_boot": "before"}), ("fill",),
    ]  # fmt: skip
    assert parts.record.maintenance() == parts.record.begun() == {}


def test_of_a_master_etcd_is_waited_for_and_what_was_left_aside_comes_back(run, parts):
    parts.record.ask_maintenance({MASTER: "before"}, packages=False)
    run(MAINTAIN, MASTER)
    assert [name for name, *_ in parts.done] == [
        "empty", "reboot", "start", "await", "fill",
    ]  # fmt: skip


def test_a_gateway_says_good_bye(run, parts):
    parts.record.ask_maintenance({GATEWAY: "before"}, packages=False)
    run(MAINTAIN, GATEWAY)
    assert parts.done == [("service.stop", "keepalived"), ("reboot",)]
    assert parts.ailments == [], "waited for until it serves again"


def test_a_gateway_that_does_not_serve_again_keeps_the_others_from_going(run, parts, monkeypatch):
    monkeypatch.setattr(rollout, "_NODE", 0)
    parts.record.ask_maintenance({GATEWAY: "before"}, packages=False)
    with pytest.raises(StepError, match="does not serve again"):
        run(MAINTAIN, GATEWAY)
    assert parts.record.begun() == {GATEWAY: MAINTAIN}


def test_what_was_rebooted_already_is_brought_back_only(run, parts):
    parts.record.ask_maintenance({WORKER: "before"}, packages=False)
    run(MAINTAIN, WORKER, boot="after")
    assert parts.done == [("await", {"not_boot": "before"}), ("fill",)]


def test_a_server_that_does_not_come_back_is_left_to_healing(run, parts, monkeypatch):
    monkeypatch.setattr(rollout, "_BOOT", 0)
    parts.boots = ["before"]
    parts.record.ask_maintenance({WORKER: "before"}, packages=False)
    with pytest.raises(StepError, match="does not come back"):
        run(MAINTAIN, WORKER)
    assert parts.record.begun() == {}, "what was begun is not said to be ill"
    assert list(parts.record.maintenance()) == [WORKER], "it is brought back once it is well"


def test_certificates_are_renewed_without_an_api(run, parts):
    parts.answers["members"] = JobError("etcd does not answer")
    run(RENEW, MASTER, dataclasses.replace(Rollout(), expiring={MASTER: -1}))
    assert parts.done == [("renew",)]
