"""Servers lose power, freeze, are cut off, broken or deleted: the cluster heals, by itself and without losing a write.

How long it took is printed. What was tried before each test is forgotten, so that no limit stands in its way.
"""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
from kubernetes.client import CoreV1Api

from managed_k8s.healing import record
from managed_k8s.reconcile import STATE
from tests.e2e.command_line import lab
from tests.e2e.project import eventually
from tests.e2e.test_create import ETCDCTL

pytestmark = pytest.mark.timeout(1800)

# Seconds until a server that was started or rebooted is well, and until one that was replaced is, on a busy machine.
REVIVED, REPLACED = 420, 900
PREFIX = "e2e-healing-"


class Writer:
    """Somebody who writes to the API all the time, and remembers what was acknowledged."""

    def __init__(self, api):
        self.core, self.written, self.failed = CoreV1Api(api), [], 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def _write(self):
        number = 0
        while not self._done.wait(1):
            name, number = f"{PREFIX}{time.time_ns()}", number + 1
            try:
                body = {"metadata": {"name": name}}
                self.core.create_namespaced_config_map("default", body, _request_timeout=10)
            except Exception:
                self.failed += 1
            else:
                self.written.append(name)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()
        there = {item.metadata.name for item in self.core.list_namespaced_config_map("default").items}
        lost = set(self.written) - there
        for name in filter(lambda name: name.startswith(PREFIX), there):
            with contextlib.suppress(Exception):
                self.core.delete_namespaced_config_map(name, "default")
        print(f"{len(self.written)} writes acknowledged, {self.failed} refused, {len(lost)} lost")
        assert not lost


@pytest.fixture(autouse=True)
def from_health_to_health(demo):
    """Begin with a cluster that is well, and end with one: nothing left to do, and no write lost."""
    lab("fault", "clear")
    eventually(lambda: settled(demo, 0), 900, interval=2)
    demo.store.remove(record.FILE)
    with Writer(demo.api) as writer:
        yield
        lab("fault", "clear")
        eventually(lambda: settled(demo, time.time() - 300), 900, interval=2)
    assert writer.written
    assert demo.verb("plan")["steps"] == []


def settled(demo, since):
    """Tell whether a look after some time found everything as it should be."""
    state = demo.store.read(STATE) or {}
    return state.get("ready") and state["time"] > since


def happened(demo, name, since):
    """Return what happened to a server, and when after some time."""
    return [
        (entry["what"], round(entry["time"] - since))
        for entry in demo.history()
        if entry["subject"] in (name, "cluster")
        and entry["time"] > since
        and entry["what"] not in ("begun", "progress")
    ]


def heals(demo, name, since, limit):
    """Wait until a server is healed; return what happened to it, in order."""

    def healed():
        return "healed" in dict(happened(demo, name, since))

    try:
        eventually(healed, limit, interval=5)
    finally:
        found = happened(demo, name, since)
        print(f"{name}: " + ", ".join(f"{what} after {seconds} s" for what, seconds in found))
    # The look that found it healed, whose time was rounded.
    ended = since + dict(found)["healed"] - 2
    eventually(lambda: settled(demo, ended), 400, interval=2)
    return [what for what, _ in found]


def strike(name, fault):
    """Make a fault; return when."""
    since = time.time()
    lab("fault", fault, name)
    return since


def leader(demo):
    """Return the master whose etcd leads the others."""
    masters = demo.names("master")
    script = f"{ETCDCTL} endpoint status --write-out=fields | grep -E '\"(MemberID|Leader)\"'"
    for name in masters:
        ids = [line.split(":")[1].strip() for line in demo.ssh(name, script).splitlines()]
        if len(set(ids)) == 1:
            return name
    raise AssertionError("no etcd leads")


def test_a_worker_loses_its_power(demo):
    name = demo.names("worker")[-1]
    what = heals(demo, name, strike(name, "power-loss"), REVIVED)
    assert "silent" in what
    assert {"started", "rebooted"} & set(what)
    assert "condemned" not in what


def test_a_kubelet_that_was_stopped_is_started(demo):
    name, since = demo.names("worker")[-1], time.time()
    demo.ssh(name, "sudo systemctl stop kubelet")
    what = heals(demo, name, since, REVIVED)
    assert "services_restarted" in what
    assert "rebooted" not in what


def test_a_follower_loses_its_power(demo):
    leads = leader(demo)
    name = next(master for master in demo.names("master") if master != leads)
    what = heals(demo, name, strike(name, "power-loss"), REVIVED)
    assert {"started", "rebooted"} & set(what)


def test_the_leader_loses_its_power(demo):
    name = leader(demo)
    what = heals(demo, name, strike(name, "power-loss"), REVIVED)
    assert {"started", "rebooted"} & set(what)


def test_a_worker_freezes(demo):
    name = demo.names("worker")[-1]
    assert "rebooted" in heals(demo, name, strike(name, "freeze"), REVIVED)


def test_a_worker_that_is_cut_off_is_replaced(demo):
    name = demo.names("worker")[0]
    before = demo.servers[name]["id"]
    what = heals(demo, name, strike(name, "cut"), REPLACED)
    assert [kind for kind in what if kind in ("rebooted", "condemned", "removed", "created", "joined")] == [
        "rebooted", "condemned", "removed", "created", "joined",
    ]  # fmt: skip
    assert demo.servers[name]["id"] != before


def test_a_gateway_loses_its_power(demo):
    name = demo.names("gateway")[0]
    what = heals(demo, name, strike(name, "power-loss"), REVIVED)
    assert {"started", "rebooted"} & set(what)


def test_a_server_that_was_deleted_is_made_anew(demo, cloud):
    name, since = demo.names("worker")[0], time.time()
    before = demo.servers[name]["id"]
    cloud.compute.delete_server(before)
    eventually(lambda: "smoke_passed" in dict(happened(demo, name, since)), REPLACED, interval=5)
    print(happened(demo, name, since))
    assert demo.servers[name]["id"] != before


def test_all_workers_at_once_are_started_and_not_replaced(demo):
    names = demo.names("worker")
    since = time.time()
    for name in names:
        lab("fault", "power-loss", name)
    for name in names:
        what = heals(demo, name, since, REVIVED)
        assert "alarm" in what
        assert "condemned" not in what


def test_a_kubelet_that_is_broken_costs_the_server(demo):
    name, since = demo.names("worker")[0], time.time()
    demo.ssh(name, "sudo systemctl stop kubelet && sudo sh -c 'echo > /usr/local/bin/kubelet'")
    what = heals(demo, name, since, REPLACED)
    assert [kind for kind in what if kind in ("rebooted", "condemned", "created", "joined")] == [
        "rebooted", "condemned", "created", "joined",
    ]  # fmt: skip


def test_it_still_does_what_it_is_for(demo):
    assert demo.verb("smoke")["ok"]
