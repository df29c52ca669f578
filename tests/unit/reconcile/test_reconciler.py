import dataclasses
import faulthandler
import multiprocessing
import os
import signal
import threading
import time
from typing import Any

import pytest

from managed_k8s.model import cluster as model
from managed_k8s.model import steps as model_steps
from managed_k8s.model.cluster import Desired, Facts, Marker, Observed, Snapshot
from managed_k8s.model.membership import Fleet
from managed_k8s.model.steps import (
    INIT,
    JOIN,
    Step,
)
from managed_k8s.names import GATEWAY, MASTER, WORKER, Node
from managed_k8s.reconcile import reconciler as reconciling
from managed_k8s.state import attempts, queue
from managed_k8s.state.attempts import StepAttempts
from managed_k8s.state.history import History
from managed_k8s.state.store import Store

NODES = (Node("demo", GATEWAY, 1), *(Node("demo", MASTER, n) for n in (1, 2, 3)), Node("demo", WORKER, 1))
DESIRED = Desired("demo", NODES, {node.id: "current" for node in NODES}, "resources", "smoke")
FRESH = Facts(None, model.NONE, False)


class Cluster:
    """A cluster that does what steps say."""

    def __init__(self, fails=()):
        names = [node.id for node in NODES]
        self.observed = Observed(dict.fromkeys(names, "ACTIVE"), dict.fromkeys(names, FRESH))
        self.done, self.fails = [], list(fails)
        self.masters_at_once, self.most_masters = 0, 0
        self._lock = threading.Lock()

    # Observer

    def look(self):
        return Snapshot(DESIRED, self.observed)

    def forget(self, minions):
        pass

    # Executor

    def clean(self):
        pass

    def run(self, step, look):
        master = step.kind == INIT or (step.kind == JOIN and "master" in step.node)
        with self._lock:
            self.masters_at_once += master
            self.most_masters = max(self.most_masters, self.masters_at_once)
        time.sleep(0.01)
        with self._lock:
            self.masters_at_once -= master
            if step.id in self.fails:
                self.fails.remove(step.id)
                raise RuntimeError("it did not work")
            self.done.append(step.id)
            getattr(self, f"_{step.kind}")(step.node)

    def _facts(self, name, **changes):
        facts = dataclasses.replace(self.observed.minions[name], **changes)
        self._set(minions={**self.observed.minions, name: facts})

    def _set(self, **changes):
        self.observed = dataclasses.replace(self.observed, **changes)

    def _converge(self, name):
        self._facts(name, revision="current")

    def _init(self, name):
        self._facts(name, kubeadm=model.INITIALISED, etcd_data=True)
        self._set(marker=Marker(name, finished=True), api=True)

    def _access(self, name):
        self._set(access=True, ready={name: True}, etcd=True)

    def _join(self, name):
        self._facts(name, kubeadm=model.JOINED)
        self._set(ready={**(self.observed.ready or {}), name: True})

    def _addons(self, name):
        self._set(addons=True)

    def _resources(self, name):
        self._set(resources="resources")

    def _smoke(self, name):
        self._set(smoke="smoke")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "demo")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reconciling, "SETTLE", 0.02)
    monkeypatch.setattr(attempts, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(reconciling, "_LOCK_WAIT", 0.1)


def reconciler(store, cluster, patience=1.0):
    return reconciling.Reconciler(store, cluster, cluster, History(store), patience, poll=0.05)


def run(store, cluster, patience=1.0) -> Any:
    return reconciling.reconcile(store, lambda: reconciler(store, cluster, patience))


def test_from_fresh_servers_to_a_ready_cluster(store):
    cluster = Cluster()
    outcome = run(store, cluster)
    assert outcome.ready
    assert len(cluster.done) == len(set(cluster.done)) == 5 + 1 + 1 + 3 + 3
    assert cluster.done[-1] == "smoke"
    assert cluster.most_masters == 1
    assert store.read("state.json")["ready"]
    events = [(entry["subject"], entry["what"]) for entry in History(store).last(100)]
    assert ("demo-master-1", "initialised") in events
    assert events[-1] == ("cluster", "ready")


def test_what_it_sees_and_runs_can_be_followed_from_the_store(store):
    cluster: Any = Cluster()
    seen = []
    do = cluster.run

    def spy(step, look):
        # What was started is on record a moment later.
        time.sleep(0.05)
        seen.append((step.id, store.read("state.json")))
        do(step, look)

    cluster.run = spy
    began = time.time()
    assert run(store, cluster).ready
    for step, state in seen:
        (running,) = [entry for entry in state["running"] if entry["id"] == step]
        assert began - 1 < running["since"] <= time.time()
    smoke = dict(seen)["smoke"]
    assert [row["kubernetes"] for row in smoke["servers"]] == ["-", "Ready", "Ready", "Ready", "Ready"]
    assert [part["done"] for part in smoke["parts"]] == [True, True, True, False]
    end = store.read("state.json")
    assert end["running"] == []
    assert end["since"] < end["until"]


def test_the_time_of_a_stretch_of_work_is_kept_over_runs(store):
    stretch = reconciling._stretch
    begun = stretch({}, False, 10)
    assert begun == {"since": 10, "until": None}
    ended = stretch({"ready": False, **begun}, True, 20)
    assert ended == {"since": 10, "until": 20}
    assert stretch({"ready": True, **ended}, True, 30) == ended
    assert stretch({"ready": True, **ended}, False, 40) == {"since": 40, "until": None}


def test_what_failed_is_tried_again_and_the_rest_goes_on(store):
    cluster = Cluster(fails=["join:demo-master-2", "addons", "converge:demo-worker-1"])
    assert run(store, cluster).ready
    failed = [entry for entry in History(store).last(100) if entry["what"] == "failed"]
    assert len(failed) == 3
    assert all("it did not work" in entry["reason"] and "To do:" in entry["reason"] for entry in failed)
    assert store.read("attempts.json") == {}


def test_a_ready_cluster_has_no_failures(store):
    # An init whose reconciler was killed ends by itself: no later step says that it went well.
    StepAttempts(store).failed(Step("init:demo-master-1", INIT, "demo-master-1", "initialise"), "still running")
    assert run(store, Cluster()).ready
    assert store.read("attempts.json") == {}


def test_it_ends_when_nothing_moves(store):
    cluster = Cluster()
    minions = {name: facts for name, facts in cluster.observed.minions.items() if name != "demo-worker-1"}
    cluster.observed = dataclasses.replace(cluster.observed, minions=minions)
    outcome = run(store, cluster, patience=0.2)
    assert not outcome.ready
    assert [step.id for step in outcome.steps] == ["smoke"]
    assert "demo-worker-1" in outcome.waiting[0]


def test_a_paused_cluster_is_looked_at_and_left_alone(store):
    cluster = Cluster()
    cluster._set(fleet=Fleet(paused="paused 12:00: network work"))
    started = time.monotonic()
    outcome = run(store, cluster, patience=3600)
    assert time.monotonic() - started < 600
    assert cluster.done == []
    assert outcome.steps
    assert any("network work" in sentence for sentence in outcome.waiting)


def test_a_look_that_fails_is_no_end(store):
    cluster: Any = Cluster()
    errors = [OSError("the cloud is away")] * 2
    look = cluster.look

    def flaky():
        if errors:
            raise errors.pop()
        return look()

    cluster.look = flaky
    assert run(store, cluster).ready
    assert "the cloud is away" in History(store).last(100)[0]["reason"]


def test_a_note_wakes_it_while_it_waits(store):
    cluster = Cluster()
    absent = cluster.observed.minions["demo-worker-1"]
    minions = {name: facts for name, facts in cluster.observed.minions.items() if name != "demo-worker-1"}
    cluster.observed = dataclasses.replace(cluster.observed, minions=minions)

    def arrive():
        cluster._set(minions={**cluster.observed.minions, "demo-worker-1": absent})
        queue.Inbox(store).put("demo-worker-1", "minion started")

    timer = threading.Timer(0.3, arrive)
    timer.start()
    assert run(store, cluster, patience=5).ready
    timer.join()


def test_a_note_that_comes_at_the_very_end_is_not_lost(store):
    runs = []

    class Run(reconciling.Reconciler):
        def __init__(self):
            pass

        def run(self):
            runs.append(queue.Inbox(store).take())
            if len(runs) == 1:
                queue.Inbox(store).put("demo", "late")
            return reconciling.Outcome([], [])

    reconciling.reconcile(store, Run)
    assert [[note["reason"] for note in notes] for notes in runs] == [[], ["late"]]


def test_a_second_one_leaves_it_to_the_first(store):
    assert not queue.is_held(store)
    with queue.lock(store):
        assert queue.is_held(store)
        assert reconciling.reconcile(store, pytest.fail) is None
    assert not queue.is_held(store)


def _hold(root):
    with queue.lock(Store(root, "demo")):
        time.sleep(60)


def test_a_killed_one_gives_the_lock_back(tmp_path, store):
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path,))
    process.start()
    while not queue.is_held(store):
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert run(store, Cluster()).ready


def test_a_step_that_hangs_is_given_up(store, monkeypatch):
    quick = {name: dataclasses.replace(kind, limit=0.05) for name, kind in model_steps.KINDS.items()}
    monkeypatch.setattr(model_steps, "KINDS", quick)
    cluster: Any = Cluster()
    cluster.run = lambda step, look: time.sleep(1)
    with pytest.raises(reconciling.OverdueError):
        run(store, cluster)
    assert not queue.is_held(store)


def _look_for_ever(root, log):
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    cluster: Any = Cluster()

    def a_look_without_an_end():
        cluster._lock.acquire()
        cluster._lock.acquire()

    cluster.look = a_look_without_an_end
    run(Store(root, "demo"), cluster)


def test_a_look_that_hangs_ends_the_process_and_says_where(tmp_path, store, monkeypatch):
    monkeypatch.setattr(reconciling, "HANGS", 1)
    log = tmp_path / "log"
    process = multiprocessing.get_context("fork").Process(target=_look_for_ever, args=(tmp_path, log))
    process.start()
    process.join(30)
    assert process.exitcode == 1
    assert "in a_look_without_an_end" in log.read_text()
    assert run(store, Cluster()).ready


def test_one_that_takes_its_turns_may_last(store, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: told.append("turn"))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: told.append("end"))
    cluster: Any = Cluster()
    do = cluster.run

    def last(step, look):
        if step.id == "smoke":
            before, end = len(told), time.monotonic() + 30
            while len(told) <= before + 2:
                assert time.monotonic() < end
                time.sleep(0.05)
        do(step, look)

    cluster.run = last
    assert run(store, cluster).ready
    assert told[-1] == "end"


def test_notes_are_bounded_and_harmless(store):
    inbox = queue.Inbox(store)
    for _ in range(200):
        inbox.put("demo-worker-1", "x\x1b[2J" * 1000)
    notes = inbox.take()
    assert len(notes) == 100
    assert all(len(note["reason"]) <= 200 and "\x1b" not in note["reason"] for note in notes)
    assert inbox.is_empty()


def test_history_is_bounded_and_private(store):
    history = History(store)
    for number in range(2100):
        history.add("cluster", "ready", str(number))
    history.trim()
    assert len(history.last(5000)) == 1000
    assert history.last(1)[0]["reason"] == "2099"
    assert store.path("history.jsonl").stat().st_mode & 0o777 == 0o600


def test_what_happens_while_the_past_is_shown_is_not_passed_over(store):
    history = History(store)
    for number in (1, 2, 3):
        history.add("cluster", "begun", f"number {number}")
    entries = history.follow(last=2)
    shown = [next(entries)["reason"]]
    history.add("cluster", "begun", "number 4")
    shown += [next(entries)["reason"] for _ in range(2)]
    assert shown == ["number 2", "number 3", "number 4"]
    assert next(entries) is None


def test_following_shows_what_is_new(store):
    history = History(store)
    history.add("cluster", "ready", "old")
    entries = history.follow()
    assert next(entries) is None
    history.add("cluster", "ready", "new")
    assert (next(entries) or {})["reason"] == "new"
    assert next(entries) is None


def test_a_look_that_failed_is_on_record_once_and_until_one_does_not(store):
    history, reconciler_of = History(store), lambda: reconciler(store, Cluster())
    assert reconciling.failed_look(store, history) is None
    for _ in range(2):
        reconciler_of()._note_failed_look("503")
    assert [entry["what"] for entry in history.last(9)] == ["look_failed"]
    found = reconciling.failed_look(store, history)
    assert found is not None
    assert found["reason"] == "503"
    store.write(reconciling.STATE, {"time": time.time() + 1, "ready": True})
    assert reconciling.failed_look(store, history) is None
