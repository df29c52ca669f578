import collections
import contextlib
import os
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from managed_k8s import errors
from managed_k8s.operations import access, clusters
from managed_k8s.operations import reconcile as reconciling
from managed_k8s.state import immutable_settings, queue
from managed_k8s.state.history import History
from managed_k8s.state.store import Store

MAP = {"demo-gateway": ["demo-gateway-1"], "demo-master": ["demo-master-1"]}
PROFILES = {"demo-gateway": {"ssh_username": "ops"}, "demo-master": {"ssh_gateway": "demo-gateway"}}
GATEWAY = {"id": "g", "role": "gateway", "status": "ACTIVE", "address": "10.0.0.1", "floating_ip": "192.0.2.1"}
MASTER = {"id": "m", "role": "master", "status": "ACTIVE", "address": "10.0.0.2", "floating_ip": None}
INVENTORY = {"demo-gateway-1": GATEWAY, "demo-master-1": MASTER}


@pytest.fixture
def opts(tmp_path):
    for name in ("pillar/clusters", "cloud.profiles.d"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "pillar" / "clusters" / "demo.sls").write_text("managed_k8s: {}\n")
    (tmp_path / "cluster.map").write_text(yaml.safe_dump(MAP))
    (tmp_path / "cloud.profiles.d" / "demo.conf").write_text(yaml.safe_dump(PROFILES))
    folders = {"checkout": str(tmp_path), "state": str(tmp_path / "state")}
    return {"managed_k8s": folders, "conf_file": str(tmp_path / "master"), "root_dir": str(tmp_path / "state")}


@pytest.fixture
def store(opts):
    return Store.of(opts, "demo")


def test_a_picture_is_of_what_lies_in_the_store(opts, store):
    scene = reconciling.scene(opts, "demo", [])
    assert (scene.state, scene.attempts, scene.working) == ({}, {}, False)
    store.write("state.json", {"ready": False})
    assert reconciling.scene(opts, "demo", []).state == {}, "an older tree's says too little"
    store.write("state.json", {"ready": False, "servers": []})
    with queue.lock(store):
        scene = reconciling.scene(opts, None, collections.deque(["entry"], 5))
    assert scene.state["servers"] == []
    assert scene.working
    assert scene.entries[-5:] == ["entry"]


def test_says_how_to_reach_it_without_asking_the_cloud(opts, store):
    with pytest.raises(errors.RequestError, match="no kubeconfig yet"):
        access.reach(opts, "demo")
    store.write_text("kubeconfig", yaml.safe_dump({"clusters": [{"cluster": {"server": "https://192.0.2.9:6443"}}]}))
    store.write("inventory.json", INVENTORY)
    found = access.reach(opts, "demo")
    assert found["cluster"] == "demo"
    assert found["api"] == "https://192.0.2.9:6443"
    assert found["ssh"] == f"ssh -F {store.folder}/ssh_config demo-master-1"
    asked = subprocess.run(["ssh", "-G", *found["ssh"].split()[1:]], capture_output=True, text=True, check=True)
    assert "proxyjump demo-gateway-1" in asked.stdout
    assert f"identityfile {store.folder}/ssh_key" in asked.stdout


def test_waiting_in_vain_says_why(opts, store, monkeypatch):
    monkeypatch.setattr(immutable_settings, "checked", lambda opts, name: {})
    monkeypatch.setattr(queue, "start", lambda opts, store: None)

    def missing():
        with pytest.raises(errors.RequestError) as raised:
            list(reconciling.wait(opts, "demo", 0.05, poll=0.01))
        return str(raised.value)

    assert "the first look has not ended" in missing()
    History(store).add("cluster", "look_failed", "the cloud is away")
    assert "the cloud is away" in missing()
    store.write("state.json", {"time": 0, "ready": False, "waiting": ["a minion"], "steps": [{"description": "join"}]})
    assert "- a minion\n- join" in missing()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(clusters, "_MOMENT", 0.1)
    monkeypatch.setattr(clusters, "_LOCK_LIMIT", 1)


def test_removing_waits_for_nobody_for_ever(opts, store, quick):
    found: Any = SimpleNamespace(name="demo", store=store)
    alone = clusters.exclusive(opts, found, lambda words: None)
    with queue.lock(store), pytest.raises(errors.RequestError, match=r"still works on it.*fuser"):
        alone.__enter__()


_HOLD = """
import sys, time
from managed_k8s.state import immutable_settings, queue
from managed_k8s.state.store import Store
with queue.lock(Store(sys.argv[1], "demo")):
    print("held", flush=True)
    time.sleep(60)
"""


def test_removing_stops_the_reconciler(opts, store, quick, tmp_path, monkeypatch):
    found: Any = SimpleNamespace(name="demo", store=store)
    command = [sys.executable, "-c", _HOLD, opts["root_dir"]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    held = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    assert held.stdout
    held.stdout.readline()
    import psutil

    monkeypatch.setattr(queue, "reconcilers", lambda configuration, cluster: [psutil.Process(held.pid)])
    said: list[str] = []
    with clusters.exclusive(opts, found, said.append):
        assert queue.is_held(store)
    assert said == [f"stop the reconciler (process {held.pid})"]
    with contextlib.suppress(ProcessLookupError):
        held.kill()
    held.wait()
    held.stdout.close()
    assert not queue.is_held(store)


def test_asking_whether_one_is_at_work_does_not_look_like_one(store):
    """Several may ask at once, and none of them keeps a reconciler from starting."""
    import threading

    answers = []

    def ask():
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            answers.append(queue.is_held(store))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(answers)


def test_a_sweep_goes_on_looking_after_a_look_that_failed(monkeypatch, opts, store):
    started: list[str] = []
    monkeypatch.setattr(queue, "start", lambda opts, store, what="reconcile": started.append(what))
    now = time.time()
    store.write("state.json", {"ready": True, "time": now - 60})
    assert reconciling.sweep(opts, now) == {"clusters": []}
    History(store).add("cluster", "look_failed", "the cloud answers 503")
    assert reconciling.sweep(opts, now) == {"clusters": ["demo"]}
    assert started == ["reconcile"]
