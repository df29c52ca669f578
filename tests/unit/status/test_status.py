"""What people see of several worlds."""

import dataclasses
import io
import json

import pytest
import yaml
from hypothesis import given, settings
from rich.console import Console

from managed_k8s import paths
from managed_k8s.model.cluster import Snapshot
from managed_k8s.model.membership import Fleet, Member
from managed_k8s.operations import reconcile
from managed_k8s.plan import plan, waiting
from managed_k8s.status import status, terminal
from managed_k8s.status.facts import ETCD, MINIONS, PLAN, Certificate
from tests.support import worlds as worlds
from tests.support.clusters import DEMO, change, healthy
from tests.support.clusters import worlds as observations
from tests.support.worlds import DAY, NOW


def seen(world, height=50, width=160):
    console = Console(file=io.StringIO(), width=width, force_terminal=False, legacy_windows=False)
    console.print(terminal.draw(status.status(world), height))
    return console.file.getvalue()


def row(text, name):
    return " ".join(next(line for line in text.splitlines() if line[3:].startswith(f"{name} ")).split())


def node(data, name):
    return next(each for each in data["nodes"] if each["name"] == name)


def when(data):
    return {each["what"]: (None if each["when"] is None else each["when"] - NOW) for each in data["upcoming"]}


@pytest.mark.parametrize("make", worlds.WORLDS.values(), ids=worlds.WORLDS)
def test_every_world_has_a_screen_and_plain_data(make):
    world = make()
    data = status.status(world)
    assert json.loads(json.dumps(data)) == data
    assert {each["name"] for each in data["nodes"]} == {each.id for each in world.wanted}
    text = seen(world)
    assert text.rstrip().splitlines()[-1].startswith("demo is")
    assert len(text.splitlines()) <= 50
    for source, why in world.unknown.items():
        assert any(why in sentence for sentence in data["wrong"]), source


def test_all_is_well():
    data = status.status(worlds.well())
    assert (data["ready"], data["wrong"], data["waiting"], data["next"], data["failed"]) == (True, [], [], [], {})
    assert {each["state"] for each in data["nodes"]} == {status.GOOD}
    assert data["address"]["holders"] == ["demo-gateway-1"]
    assert node(data, "demo-worker-1")["volumes"] == ["shop/data"]
    assert when(data) == {
        "back etcd, certificates and keys up": 180,
        "look whether all is as it should be": 200,
        "restore the newest backup in a drill": 9 * 3600,
        "renew the certificate of the Salt master's kubeconfig": 334 * DAY,
    }
    text = seen(worlds.well())
    assert "answers at 192.0.2.9; inside 10.30.0.5, demo-gateway-1 has it" in text
    assert "3 of 3 members healthy" in text
    assert "newest 12 min 0 s ago" in text
    assert "an API server 364 days, the cluster's authority 9 years" in text
    assert "2, 1 of them attached" in text
    assert row(text, "demo-master-1") == "✓ demo-master-1 ACTIVE connected yes Ready 1.36.3 in etcd"
    assert text.rstrip().endswith("demo is as it should be.")
    assert "Wrong" not in text


def test_one_master_is_down():
    data = status.status(worlds.master_down())
    assert not data["ready"]
    assert data["etcd"]["quorum"]
    assert node(data, "demo-master-2")["state"] == status.BAD
    assert [each["name"] for each in data["nodes"] if each["state"] != status.GOOD] == ["demo-master-2"]
    assert data["wrong"] == ["etcd: 2 of 3 members are healthy, not on demo-master-2"]
    assert any("demo-master-2: the server is SHUTOFF" in sentence for sentence in data["waiting"])
    text = seen(worlds.master_down())
    assert "SHUTOFF silent no NotReady" in row(text, "demo-master-2")
    assert "demo is not ready." in text


def test_the_api_is_away_and_the_rest_is_shown():
    data = status.status(worlds.api_away())
    assert (data["api"], data["volumes"], data["etcd"]["healthy"]) == (False, None, 3)
    assert any("Kubernetes cannot be asked: its API does not answer" in sentence for sentence in data["wrong"])
    assert any(sentence.startswith("no gateway has 10.30.0.5") for sentence in data["wrong"])
    assert not any("certificate of an API server" in sentence for sentence in data["wrong"]), "it is said already"
    assert {each["state"] for each in data["nodes"] if each["role"] != "gateway"} == {status.UNKNOWN}
    text = seen(worlds.api_away())
    assert "does not answer at 192.0.2.9" in text
    assert "3 of 3 members healthy" in text


def test_the_cloud_is_away_and_what_was_last_seen_is_shown_as_such():
    data = status.status(worlds.cloud_away())
    assert not data["ready"]
    assert node(data, "demo-worker-1")["server"] is None
    assert node(data, "demo-worker-1")["kubernetes"] == "Ready", "Kubernetes said so just now"
    text = seen(worlds.cloud_away())
    assert row(text, "demo-worker-1") == "? demo-worker-1 ACTIVE? connected yes? Ready 1.36.3"
    assert "What has a ? is not known now; it was so 1 min 40 s ago." in text
    assert "the cloud cannot be asked: the cloud's API keeps on failing" in text


def test_nothing_is_there():
    data = status.status(worlds.nothing())
    assert {each["state"] for each in data["nodes"]} == {status.ABSENT}
    assert data["wrong"] == [], "nothing was asked for yet"
    assert any("run: salt-cloud -m cluster.map" in sentence for sentence in data["waiting"])
    assert "none yet" in seen(worlds.nothing())


def test_what_runs_and_what_comes_after_it():
    data = status.status(worlds.creating())
    assert when(data)["converge demo-worker-1"] == 0
    found = {each["what"]: each for each in data["upcoming"]}
    assert found["converge demo-worker-1"]["since"] == NOW - 75
    assert found["join demo-worker-1"]["why"] == "after: converge demo-worker-1"
    assert found["run the smoke test"]["why"].startswith("not yet: ")
    assert data["wrong"] == ["join demo-worker-1: failed 2 times, last: kubeadm join failed"]
    text = seen(worlds.creating())
    assert "converge for 1 min 15 s" in row(text, "demo-worker-1")
    assert "for 1 min 15 s now" in text


def failing_join(**more):
    ready = {name: ok for name, ok in healthy().ready.items() if name != "demo-worker-1"}
    minions = dict(healthy().minions)
    minions["demo-worker-1"] = dataclasses.replace(minions["demo-worker-1"], kubeadm="none")
    observed = change(healthy(), ready=ready, minions=minions)
    return worlds.well(look=Snapshot(DEMO, observed), state=worlds.state(ready=False), **more)


def test_a_step_says_when_it_begins():
    attempts = {"join:demo-worker-1": {"count": 2, "until": NOW + 40, "why": "no"}}
    assert when(status.status(failing_join()))["join demo-worker-1"] == status.SWEEP
    assert when(status.status(failing_join(working=True)))["join demo-worker-1"] == 0
    assert when(status.status(failing_join(attempts=attempts)))["join demo-worker-1"] == 40
    paused = status.status(failing_join(paused="paused since noon: x"))
    found = next(each for each in paused["upcoming"] if each["what"] == "join demo-worker-1")
    assert (found["when"], found["why"]) == (None, "paused since noon: x")


def test_what_a_dead_reconciler_was_at_does_not_run():
    world = dataclasses.replace(worlds.creating(), working=False)
    assert node(status.status(world), "demo-worker-1")["doing"] == []


@pytest.mark.parametrize(
    ("holder", "words"),
    [("demo-gateway-1", None), ("nobody", "no gateway has 10.30.0.5"), ("", "both have 10.30.0.5")],
)
def test_one_gateway_must_have_the_address(holder, words):
    minions = worlds.facts(holder=holder)
    if not holder:
        minions |= {n: dataclasses.replace(f, virtual_ip=True) for n, f in minions.items() if "gateway" in n}
    wrong = status.status(worlds.well(minions=minions))["wrong"]
    assert wrong == [] if words is None else words in wrong[0]


def test_gateways_that_do_not_say_are_not_taken_for_ones_without_it():
    minions = {name: dataclasses.replace(each, virtual_ip=None) for name, each in worlds.facts().items()}
    data = status.status(worlds.well(minions=minions))
    assert (data["address"]["holders"], data["wrong"]) == (None, [])
    assert "it is not known which gateway has it" in seen(worlds.well(minions=minions))


def test_a_lost_quorum_is_said():
    members = tuple(Member(f"a{n}", f"demo-master-{n}", healthy=n == 1) for n in (1, 2, 3))
    data = status.status(worlds.well(members=members))
    assert not data["etcd"]["quorum"]
    assert "the quorum is lost" in data["wrong"][0]


def test_a_disk_that_kubernetes_calls_full_is_said():
    nodes = worlds.kubernetes_nodes()
    nodes["demo-worker-1"]["disk_pressure"] = True
    (sentence,) = status.status(worlds.well(nodes=nodes))["wrong"]
    assert sentence.startswith("demo-worker-1: Kubernetes says that its disk is full (DiskPressure)")


def test_nodes_of_another_version_are_said():
    nodes = worlds.kubernetes_nodes()
    nodes["demo-worker-1"]["version"] = "1.35.0"
    wrong = status.status(worlds.well(nodes=nodes))["wrong"]
    assert wrong == ["demo-worker-1: Kubernetes 1.35.0, and kubernetes.version is 1.36.3"]


@pytest.mark.parametrize(
    ("ends", "problem", "words"),
    [
        (NOW + 13 * DAY, "", "ends in 13.0 days"),
        (NOW - 1, "", "has ended"),
        (None, "connection refused", "connection refused"),
        (NOW + 15 * DAY, "", None),
    ],
)
def test_a_certificate_that_nobody_renewed_is_wrong(ends, problem, words):
    world = worlds.well(certificates=(Certificate("api", "an API server", ends, problem=problem),))
    wrong = status.status(world)["wrong"]
    assert wrong == [] if words is None else words in wrong[0]


def test_a_reconciler_that_does_not_look_is_wrong():
    old = worlds.state(time=NOW - 1200)
    assert "20 minutes ago" in status.status(worlds.well(state=old))["wrong"][0]
    assert status.status(worlds.well(state=old, working=True))["wrong"] == []


def test_problems_of_backups_are_wrong_but_the_cluster_is_ready():
    backup = dataclasses.replace(worlds.well().backup, problems=("the disk is full",))
    text = seen(worlds.well(backup=backup))
    assert "- backups: the disk is full" in text
    assert "demo is as it should be. Beside that, something is wrong: see above." in text


def test_who_cordoned_a_node_is_said():
    nodes = worlds.kubernetes_nodes()
    nodes["demo-worker-1"] |= {"unschedulable": True, "cordoned_by": "operator"}
    nodes["demo-worker-2"] |= {"unschedulable": True}
    data = status.status(worlds.well(nodes=nodes))
    assert node(data, "demo-worker-1")["notes"] == ["cordoned by managed_k8s.drain"]
    assert node(data, "demo-worker-2")["notes"] == ["cordoned by somebody else"]
    assert node(data, "demo-worker-2")["state"] == status.BUSY
    nodes["demo-worker-2"] |= {"cordoned_by": "maintenance"}
    data = status.status(worlds.well(nodes=nodes))
    assert node(data, "demo-worker-2")["notes"] == ["cordoned for its upgrade or reboot"]


def test_a_server_that_is_not_in_the_map_is_shown():
    servers = worlds.listed() | {"demo-worker-9": worlds.listed()["demo-worker-1"]}
    found = node(status.status(worlds.well(servers=servers)), "demo-worker-9")
    assert (found["role"], found["notes"], found["state"]) == ("worker", ["not in cluster.map"], status.BUSY)


def test_of_a_large_cluster_those_are_shown_that_need_something():
    text = seen(worlds.large())
    assert row(text, "demo-worker-250").startswith("✗")
    assert "304 of 305 are well" in text
    assert len(text.splitlines()) < 50


def test_nothing_in_what_others_say_is_markup():
    world = worlds.well(unknown={MINIONS: "[red]x[/] [/nonsense]"}, minions=None)
    assert "[red]x[/] [/nonsense]" in seen(world)


def test_it_fits_a_terminal():
    assert all(len(line) <= 100 for line in seen(worlds.well(), width=100).splitlines())


def test_the_plan_is_the_reconcilers_though_more_is_known():
    """It does not ask for etcd's members while no master comes or goes: a stray one changes nothing of what it does."""
    stray = Fleet(members=(Member("cafe", "demo-master-9", healthy=False, lost=True),))
    look = Snapshot(DEMO, change(healthy(), fleet=stray))
    assert status.planned(look) == ([], [])


@settings(max_examples=20)
@given(observations())
def test_it_never_fails_and_says_ready_of_nothing_else(observed):
    data = status.status(worlds.well(look=Snapshot(DEMO, observed), minions=observed.minions))
    assert data["ready"] == (not plan(DEMO, observed) and not waiting(DEMO, observed))
    assert all(node["state"] != status.UNKNOWN for node in data["nodes"])


def test_what_is_not_known_has_no_sentence_of_the_plan():
    data = status.status(worlds.silence())
    assert data["unknown"].keys() >= {MINIONS, ETCD, PLAN}
    assert (data["next"], data["waiting"], data["ready"]) == ([], [], False)


def test_times_are_those_of_who_acts():
    assert status.SETTLED == reconcile.SETTLED_LOOK
    master = yaml.safe_load((paths.root() / "master.d" / "managed-k8s.conf").read_text())
    assert master["schedule"]["managed_k8s_sweep"]["seconds"] == status.SWEEP
