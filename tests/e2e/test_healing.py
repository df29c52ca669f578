"""Servers lose power, freeze, are cut off, broken or deleted: the cluster heals, by itself and without losing a write.

How long it took is printed. What was tried before each test is forgotten, so that no limit stands in its way.
"""

from __future__ import annotations

import time

import pytest
import yaml

from managed_k8s.state import healing
from tests.support.command_line import lab
from tests.support.faults import (
    OUTAGE,
    REPLACED,
    REPLACED_LATE,
    REVIVED,
    STRIKES,
    Writer,
    await_event,
    fail_cloud,
    happened,
    is_healed,
    leader,
    restart_salt_master,
    settled,
)
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(3600)

# What the ladder does, and what a replacement is.
REPLACEMENT = ("condemned", "removed", "created", "joined")
RUNGS = ("services_restarted", "started", "rebooted", *REPLACEMENT)


@pytest.fixture(autouse=True)
def from_health_to_health(demo):
    """Begin with a cluster that is well, and end with one: nothing left to do, and no write lost."""
    lab("fault", "clear")
    eventually(lambda: settled(demo, 0), 900, interval=2)
    demo.store.remove(healing.FILE)
    with Writer(demo.api) as writer:
        yield
        lab("fault", "clear")
        eventually(lambda: settled(demo, time.time() - 300), 900, interval=2)
    assert writer.written
    assert not writer.lost
    assert demo.verb("plan")["steps"] == []


def strike(demo, name, fault):
    """Make a fault; return when."""
    since = time.time()
    STRIKES[fault](demo, name)
    return since


def heals(demo, name, since, limit, by="healed"):
    """Wait until a server is healed, and the cluster with it; return what happened to it, in order.

    by: what happens to it last.
    """
    try:
        eventually(lambda: is_healed(demo, [name], since, by), limit, interval=5)
    finally:
        found = happened(demo, [name], since)
        print(f"{name}: " + ", ".join(f"{what} after {seconds} s" for _, what, seconds in found))
    return [what for _, what, _ in found]


def only(what, kinds):
    """Return what happened of some kinds."""
    return [one for one in what if one in kinds]


def follower(demo):
    """Return a master whose etcd follows another one's."""
    leads = leader(demo)
    return next(master for master in demo.names("master") if master != leads)


def is_replaced(what):
    """Tell whether a server was made anew, in the order of a removal."""
    return only(what, REPLACEMENT) == list(REPLACEMENT)


# Workers


def test_a_worker_loses_its_power(demo):
    name = demo.names("worker")[-1]
    what = heals(demo, name, strike(demo, name, "power-loss"), REVIVED)
    assert "silent" in what
    assert {"started", "rebooted"} & set(what)
    assert "condemned" not in what


def test_a_kubelet_that_was_stopped_is_started(demo):
    name = demo.names("worker")[-1]
    what = heals(demo, name, strike(demo, name, "stop-kubelet"), REVIVED)
    assert "services_restarted" in what
    assert "rebooted" not in what


def test_a_worker_freezes(demo):
    name = demo.names("worker")[-1]
    assert "rebooted" in heals(demo, name, strike(demo, name, "freeze"), REVIVED)


def test_a_worker_that_is_cut_off_is_rebooted_and_costs_its_server_when_that_does_not_help(demo):
    name = demo.names("worker")[0]
    what = heals(demo, name, strike(demo, name, "cut"), REPLACED)
    # The lab's ports open when a server boots; those of a broken switch do not.
    assert only(what, RUNGS) in (["rebooted"], ["rebooted", *REPLACEMENT])


def test_a_worker_whose_disk_is_full_is_replaced(demo):
    name = demo.names("worker")[0]
    assert is_replaced(heals(demo, name, strike(demo, name, "fill-disk"), REPLACED_LATE))


def test_a_worker_whose_kubelet_cannot_make_enough_room_is_replaced(demo):
    """Less is free than the kubelet defends, and more than what its server calls full."""
    name, since = demo.names("worker")[-1], time.time()
    free = "$(($(df --output=avail --block-size=1 / | tail -1) - $(df --output=size --block-size=1 / | tail -1) / 12))"
    demo.ssh(name, f"sudo fallocate --length {free} /var/tmp/filled")
    what = heals(demo, name, since, REPLACED_LATE)
    assert is_replaced(what)
    assert next(seconds for _, kind, seconds in happened(demo, [name], since) if kind == "condemned") > 300


def test_a_kubelet_that_is_broken_costs_the_server(demo):
    name, since = demo.names("worker")[0], time.time()
    demo.ssh(name, "sudo systemctl stop kubelet && sudo sh -c 'echo > /usr/local/bin/kubelet'")
    what = heals(demo, name, since, REPLACED)
    assert only(what, ("rebooted", *REPLACEMENT)) == ["rebooted", *REPLACEMENT]


def test_a_server_that_was_deleted_is_made_anew(demo):
    name = demo.names("worker")[0]
    before = demo.servers[name]["id"]
    what = heals(demo, name, strike(demo, name, "delete"), REPLACED, by="joined")
    assert "smoke_passed" in what
    assert demo.servers[name]["id"] != before


def test_all_workers_at_once_are_started_and_not_replaced(demo):
    names = demo.names("worker")
    since = time.time()
    for name in names:
        strike(demo, name, "power-loss")
    for name in names:
        what = heals(demo, name, since, REVIVED)
        assert "alarm" in what
        assert "condemned" not in what


@pytest.fixture
def four_workers(demo):
    """Two workers more than the map has, for a while; their names."""
    file = demo.checkout.root / "cluster.map"
    before = file.read_text()
    content = yaml.safe_load(before)
    content["demo-worker"] = [f"demo-worker-{number}" for number in (1, 2, 3, 4)]
    file.write_text(yaml.safe_dump(content))
    try:
        demo.checkout.run("salt-cloud", "-y", "-m", "cluster.map", timeout=1200)
        demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, timeout=1800)
        yield demo.names("worker")
    finally:
        lab("fault", "clear")
        file.write_text(before)
        # A reconciler may be at work, which this says; what is wished is noted all the same.
        demo.checkout.run("salt-run", "managed_k8s.reconcile", demo.name, "yes=True", check=False, timeout=1800)
        demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, timeout=1800)


def test_half_of_the_workers_at_once_raise_an_alarm_and_nothing_is_done_to_them(demo, four_workers):
    names = four_workers[-2:]
    since = time.time()
    for name in names:
        strike(demo, name, "freeze")
    await_event(demo, "cluster", "alarm", since, REVIVED)
    # Long beyond the time at which one alone would have been rebooted.
    time.sleep(180)
    assert only([what for _, what, _ in happened(demo, names, since)], RUNGS) == []
    thawed = time.time()
    for name in names:
        lab("fault", "undo", "freeze", name)
    await_event(demo, "cluster", "alarm_over", thawed, REVIVED)
    eventually(lambda: settled(demo, thawed), REVIVED, interval=2)
    assert only([what for _, what, _ in happened(demo, names, since)], RUNGS) == []


# Masters


def test_a_follower_loses_its_power(demo):
    name = follower(demo)
    what = heals(demo, name, strike(demo, name, "power-loss"), REVIVED)
    assert {"started", "rebooted"} & set(what)


def test_the_leader_loses_its_power(demo):
    name = leader(demo)
    what = heals(demo, name, strike(demo, name, "power-loss"), REVIVED)
    assert {"started", "rebooted"} & set(what)


def test_the_leader_freezes(demo):
    name = leader(demo)
    assert "rebooted" in heals(demo, name, strike(demo, name, "freeze"), REVIVED)


def test_a_master_is_cut_off(demo):
    name = follower(demo)
    assert "rebooted" in heals(demo, name, strike(demo, name, "cut"), REPLACED)


def test_a_master_whose_disk_is_full_is_replaced(demo):
    name = follower(demo)
    what = heals(demo, name, strike(demo, name, "fill-disk"), REPLACED_LATE)
    assert is_replaced(what)
    assert "left_etcd" in what


def test_a_master_whose_etcd_lost_its_data_leaves_etcd_and_is_replaced(demo):
    name = leader(demo)
    before = demo.servers[name]["id"]
    what = heals(demo, name, strike(demo, name, "corrupt-etcd"), REPLACED_LATE)
    assert only(what, ("rebooted", "left_etcd", "created", "joined")) == ["rebooted", "left_etcd", "created", "joined"]
    assert demo.servers[name]["id"] != before


def test_a_master_that_was_deleted_is_made_anew(demo):
    name = follower(demo)
    what = heals(demo, name, strike(demo, name, "delete"), REPLACED, by="joined")
    assert only(what, ("left_etcd", "created", "joined")) == ["left_etcd", "created", "joined"]


# Gateways


@pytest.mark.parametrize("fault", ["power-loss", "freeze", "cut"])
def test_a_gateway_falls_silent(demo, fault):
    name = demo.names("gateway")[0]
    what = heals(demo, name, strike(demo, name, fault), REVIVED)
    assert {"started", "rebooted"} & set(what)
    assert "condemned" not in what


def test_a_gateway_whose_disk_is_full_is_replaced(demo):
    name = demo.names("gateway")[0]
    before = demo.servers[name]["id"]
    what = heals(demo, name, strike(demo, name, "fill-disk"), REPLACED_LATE)
    # A disk without a byte silences the minion: then it is rebooted first.
    assert only(what, ("condemned", "removed", "created")) == ["condemned", "removed", "created"]
    assert demo.servers[name]["id"] != before


def test_a_gateway_that_was_deleted_is_made_anew(demo):
    name = demo.names("gateway")[-1]
    before = demo.servers[name]["id"]
    what = heals(demo, name, strike(demo, name, "delete"), REPLACED, by="converged")
    assert only(what, RUNGS) == ["created"]
    assert demo.servers[name]["id"] != before


# What heals is disturbed


@pytest.mark.parametrize(
    ("fault", "when", "by"),
    [("power-loss", "silent", "healed"), ("delete", "begun", "joined")],
    ids=["when it is noticed", "while the server is made anew"],
)
def test_the_salt_master_is_restarted_in_the_middle(demo, fault, when, by):
    name = demo.names("worker")[-1]
    since = strike(demo, name, fault)
    await_event(demo, name, when, since, REVIVED)
    restart_salt_master(demo)
    heals(demo, name, since, REPLACED, by)


def test_the_cloud_answers_503_for_two_minutes_in_the_middle(demo):
    name = demo.names("worker")[-1]
    since = strike(demo, name, "power-loss")
    await_event(demo, name, "silent", since)
    fail_cloud(demo)
    assert only([what for _, what, _ in happened(demo, [name], since)], RUNGS) == []
    what = heals(demo, name, since, REVIVED + OUTAGE)
    assert "look_failed" in what
    assert "condemned" not in what


FORGED = (
    "managed_k8s/demo/demo-master-1/silent",
    "managed_k8s/demo/demo-master-1/condemned",
    "salt/beacon/demo-master-1/managed_k8s_node/",
    "salt/cloud/demo-master-1/destroyed",
    "salt/minion/demo-master-1/start",
)


def test_what_a_compromised_worker_tells_makes_us_look_and_no_more(demo):
    liar, since = demo.names("worker")[0], time.time()
    before = {name: server["id"] for name, server in demo.servers.items()}
    for tag in FORGED:
        told = '{"id": "demo-master-1", "name": "demo-master-1", "ailments": ["etcd", "disk"]}'
        assert demo.checkout.salt(liar, "event.send", tag, told) == {liar: True}
    eventually(lambda: settled(demo, since), 400, interval=2)
    assert only([what for _, what, _ in happened(demo, before, since)], (*RUNGS, "left_etcd", "drained")) == []
    assert {name: server["id"] for name, server in demo.servers.items()} == before


def test_it_still_does_what_it_is_for(demo):
    assert demo.verb("smoke")["ok"]
