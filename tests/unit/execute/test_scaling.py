"""Steps that make and remove servers: what is asked of whom, in which order, and what is remembered."""

import dataclasses
from typing import Any

import pytest
import yaml

from managed_k8s.config import cluster_map
from managed_k8s.execute import scaling
from managed_k8s.execute.common import StepError
from managed_k8s.minions.jobs import JobError
from managed_k8s.model import cluster as model
from managed_k8s.model.cluster import Desired, Facts, Observed, Snapshot
from managed_k8s.model.membership import Fleet, Member
from managed_k8s.model.steps import DRAIN, LEAVE, REMOVE, UNCORDON
from managed_k8s.names import MASTER, WORKER, Node
from managed_k8s.state import locks
from managed_k8s.state.change_requests import ASKED, BEGUN, COMPLETE, LEFT_MAP, Intent
from managed_k8s.state.store import Store
from tests.support.fakes import Calls
from tests.support.settings import settings

NAMES = ["demo-gateway-1", "demo-master-1", "demo-master-2", "demo-master-3", "demo-worker-1"]
NODES = (Node("demo", MASTER, 1), Node("demo", MASTER, 3), Node("demo", WORKER, 1))
MEMBERS = tuple(Member(f"id{n}", f"demo-master-{n}") for n in (1, 2, 3))


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "demo")


def look(condemned=(), silent=(), **changes):
    facts = {name: Facts("r", model.JOINED if "master" in name else model.NONE) for name in NAMES if name not in silent}
    observed = Observed(
        servers=dict.fromkeys(NAMES, "ACTIVE"),
        minions=facts,
        ready={name: name not in silent for name in NAMES[1:]},
        fleet=Fleet(condemned=dict.fromkeys(condemned, "why"), members=MEMBERS),
    )
    fleet = dataclasses.replace(observed.fleet, **changes.pop("fleet", {}))
    return Snapshot(Desired("demo", NODES, {}, "", ""), dataclasses.replace(observed, fleet=fleet, **changes))


def run(store, kind, node, seen, fails=()):
    calls: Any = Calls(fails)
    made = scaling.Turnover(
        store, settings(maintenance={"drain_seconds": 60}), calls, calls, calls, lambda subject, words: None
    )
    made.actions()[kind](node, seen)
    return calls.made


def test_a_node_that_works_is_drained_within_the_limit(store):
    assert run(store, DRAIN, "demo-worker-1", look(["demo-worker-1"])) == [("drain", "demo-worker-1")]


def test_volumes_are_let_go_only_of_a_server_that_is_off(store):
    seen = look(["demo-worker-1"], silent=["demo-worker-1"])
    assert run(store, DRAIN, "demo-worker-1", seen) == [("stop", "demo-worker-1"), ("free", "demo-worker-1")]
    with pytest.raises(JobError):
        run(store, DRAIN, "demo-worker-1", seen, fails=["stop"])


def test_a_successor_is_not_powered_off_for_what_an_earlier_server_left(store):
    seen = look(silent=["demo-worker-1"], fleet={"remains": frozenset(["demo-worker-1"])})
    assert run(store, DRAIN, "demo-worker-1", seen) == [("free", "demo-worker-1")]


def test_a_master_stops_serving_before_another_one_takes_it_out_of_etcd(store):
    Intent(store).condemn({"demo-master-2": "2"}, LEFT_MAP)
    calls = run(store, LEAVE, "demo-master-2", look(["demo-master-2"]))
    assert calls == [
        ("run", "demo-master-2", "stop"),
        ("run", "demo-master-1", "remove_member", "id2"),
    ]
    assert Intent(store).condemned()["demo-master-2"] == {"id": "2", "why": BEGUN}


def test_a_dead_master_is_taken_out_of_etcd_by_one_that_is_ready(store):
    members = (MEMBERS[0], dataclasses.replace(MEMBERS[1], healthy=False, lost=True), MEMBERS[2])
    seen = look(silent=["demo-master-2"], fleet={"members": members})
    seen = Snapshot(
        seen.desired, dataclasses.replace(seen.observed, ready={"demo-master-1": False, "demo-master-3": True})
    )
    calls = run(store, LEAVE, "demo-master-2", seen)
    assert calls == [("run", "demo-master-3", "remove_member", "id2")]


def test_a_member_without_a_name_is_removed_by_its_id(store):
    stray = Member("abc", "", healthy=False, lost=True)
    calls = run(store, LEAVE, "abc", look(fleet={"members": (*MEMBERS, stray)}))
    assert calls == [("run", "demo-master-1", "remove_member", "abc")]


def test_nobody_left_to_speak_to_etcd_through(store):
    seen = look(["demo-master-2"], silent=["demo-master-1", "demo-master-3"])
    with pytest.raises(StepError, match="no other master"):
        run(store, LEAVE, "demo-master-2", seen)


def test_node_then_server_then_key(store):
    Intent(store).condemn({"demo-worker-1": "5"}, "ill")
    assert run(store, REMOVE, "demo-worker-1", look(["demo-worker-1"])) == [
        ("delete_node", "demo-worker-1"),
        ("remove", "demo-worker-1"),
        ("forget", "demo-worker-1"),
        ("delete_node", "demo-worker-1"),
    ]
    # It is in the map, so another one is made.
    assert Intent(store).servers() == {"demo-worker-1": ASKED}
    assert Intent(store).condemned() == {}


def test_one_that_left_the_map_is_not_made_anew(store):
    said = Intent(store)
    said.completed(["demo-master-2"])
    said.condemn({"demo-master-2": "2"}, LEFT_MAP)
    run(store, REMOVE, "demo-master-2", look(["demo-master-2"]))
    assert (said.servers(), said.condemned()) == ({}, {})


def test_a_removal_that_failed_is_still_wanted(store):
    Intent(store).condemn({"demo-worker-1": "5"}, "ill")
    with pytest.raises(JobError):
        run(store, REMOVE, "demo-worker-1", look(["demo-worker-1"]), fails=["remove"])
    assert Intent(store).condemned() == {"demo-worker-1": {"id": "5", "why": "ill"}}


def test_a_gateway_says_good_bye(store):
    calls = run(store, REMOVE, "demo-gateway-1", look(["demo-gateway-1"]), fails=["run"])
    assert calls == [("run", "demo-gateway-1", "service.stop", "keepalived"), ("remove", "demo-gateway-1"),
                     ("forget", "demo-gateway-1")]  # fmt: skip


def test_what_a_lost_server_left_is_removed_and_its_successor_kept(store):
    Intent(store).completed(["demo-worker-1"])
    seen = look(silent=["demo-worker-1"], fleet={"remains": frozenset(["demo-worker-1"])})
    assert run(store, REMOVE, "demo-worker-1", seen) == [("delete_node", "demo-worker-1")]
    assert Intent(store).servers() == {"demo-worker-1": COMPLETE}


def test_the_key_of_a_lost_server_that_left_the_map_goes(store):
    Intent(store).completed(["demo-worker-7"])
    seen = look(fleet={"lost": frozenset(["demo-worker-7"])})
    assert ("forget", "demo-worker-7") in run(store, REMOVE, "demo-worker-7", seen)
    assert Intent(store).servers() == {}


def test_a_master_that_stays_after_all_serves_again(store):
    assert run(store, UNCORDON, "demo-master-2", look()) == [
        ("run", "demo-master-2", "start"), ("uncordon", "demo-master-2"),
    ]  # fmt: skip


# What was said


def test_what_is_complete_is_not_asked_for_again(store):
    said = Intent(store)
    said.ask(["demo-worker-1"])
    assert said.servers() == {"demo-worker-1": ASKED}
    said.completed(["demo-worker-1"])
    assert said.servers() == {"demo-worker-1": COMPLETE}


def test_there_is_no_way_back_for_what_is_half_gone(store):
    said = Intent(store)
    said.condemn({"demo-master-2": "2", "demo-master-3": "3"}, LEFT_MAP)
    said.commit("demo-master-2")
    said.commit("demo-worker-1")
    assert {name: entry["why"] for name, entry in said.condemned().items()} == {
        "demo-master-2": BEGUN, "demo-master-3": LEFT_MAP,
    }  # fmt: skip


def test_a_pause_ends(store):
    said = Intent(store)
    assert said.paused() == ""
    said.pause("network work")
    assert said.paused().endswith(": network work")
    said.resume()
    assert said.paused() == ""


def test_who_works_on_a_server_is_seen(store):
    assert not locks.is_held(store, "demo-worker-1")
    with locks.of_server(store, "demo-worker-1"):
        assert locks.is_held(store, "demo-worker-1")
    assert not locks.is_held(store, "demo-worker-1")


@pytest.mark.parametrize(
    ("text", "entry"),
    [
        ("demo-worker: [demo-worker-1, demo-worker-2]", {"demo-worker": ["demo-worker-2"]}),
        ("demo-worker: [demo-worker-2: {flavor: big}]", {"demo-worker": [{"demo-worker-2": {"flavor": "big"}}]}),
        (
            "demo-worker: {demo-worker-1: {}, demo-worker-2: {flavor: big}}",
            {"demo-worker": [{"demo-worker-2": {"flavor": "big"}}]},
        ),
    ],
)
def test_one_server_of_a_map(text, entry):
    assert cluster_map.servers(yaml.safe_load(text), "cluster.map").alone("demo-worker-2") == entry


def test_a_server_that_is_not_in_the_map():
    with pytest.raises(cluster_map.MapError, match="demo-worker-3 is not in it"):
        cluster_map.servers({"demo-worker": ["demo-worker-1"]}, "cluster.map").alone("demo-worker-3")
