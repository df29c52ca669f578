import dataclasses

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from managed_k8s.model import cluster as model
from managed_k8s.model.cluster import Facts, Marker, Observed
from managed_k8s.model.steps import CONVERGE, INFRASTRUCTURE, INIT, JOIN, SMOKE, runnable
from managed_k8s.names import GATEWAY
from managed_k8s.plan import plan, waiting
from tests.support.clusters import (
    DEMO,
    FIRST,
    FRESH,
    NAMES,
    change,
    desired,
    healthy,
    ids,
    of_kind,
    servers,
    with_facts,
    worlds,
)
from tests.support.plans import assert_in_order


@pytest.mark.parametrize(
    ("prepared", "needs"), [(None, ("converge:demo-worker-1",)), ("old", ("converge:demo-worker-1",))]
)
def test_kubeadm_waits_until_a_node_is_prepared(prepared, needs):
    observed = with_facts(healthy(), "demo-worker-1", revision=None, kubeadm=model.NONE, prepared=prepared)
    ready = {name: True for name in observed.ready if name != "demo-worker-1"}
    (join,) = of_kind(plan(DEMO, change(observed, ready=ready)), JOIN)
    assert join.needs == needs


def test_kubeadm_does_not_wait_for_what_comes_after_that():
    wanted = DEMO.revisions["demo-worker-1"]
    observed = with_facts(healthy(), "demo-worker-1", revision=None, kubeadm=model.NONE, prepared=wanted)
    ready = {name: True for name in observed.ready if name != "demo-worker-1"}
    assert ids(runnable(plan(DEMO, change(observed, ready=ready)))) == ["converge:demo-worker-1", "join:demo-worker-1"]


def test_a_healthy_cluster_needs_nothing():
    assert plan(DEMO, healthy()) == []
    assert waiting(DEMO, healthy()) == []


def test_settings_of_the_cloud_that_changed_are_carried_out_though_nobody_reaches_the_api():
    changed = change(healthy(), infrastructure="of before")
    assert ids(plan(DEMO, changed)) == ["infrastructure"]
    assert "infrastructure" in ids(runnable(plan(DEMO, change(changed, api=False, ready=None))))


def test_salt_cloud_makes_the_infrastructure_of_a_cluster_that_begins():
    steps = plan(DEMO, Observed(servers(), dict.fromkeys(NAMES, FRESH)))
    assert not of_kind(steps, INFRASTRUCTURE)


def test_without_servers_it_says_which_command_makes_them():
    nothing = Observed({}, {})
    assert plan(DEMO, nothing) == []
    sentences = waiting(DEMO, nothing)
    assert all(f"{name}: has no server; run: salt-cloud -m cluster.map" in sentences for name in NAMES)


def test_the_whole_way_is_planned_at_once():
    steps = plan(DEMO, Observed(servers(), dict.fromkeys(NAMES, FRESH)))
    assert [step.id for step in of_kind(steps, INIT, JOIN)] == [
        f"init:{FIRST}", "join:demo-master-2", "join:demo-master-3", "join:demo-worker-1", "join:demo-worker-2",
    ]  # fmt: skip
    assert ids(of_kind(steps, CONVERGE)) == [f"converge:{name}" for name in NAMES]
    assert ids(runnable(steps)) == [f"converge:{name}" for name in NAMES]
    assert steps[-1].id == "smoke"


def test_init_starts_with_one_gateway_and_one_master():
    some = ["demo-gateway-2", "demo-master-3"]
    done = {name: Facts(DEMO.revisions[name], model.NONE, False) for name in some}
    assert ids(runnable(plan(DEMO, Observed(servers(), done)))) == ["init:demo-master-3"]


@pytest.mark.parametrize(
    "world",
    [
        pytest.param({"marker": Marker(FIRST, finished=True)}, id="done before, API down"),
        pytest.param({"marker": Marker(None, finished=False)}, id="done by a Salt master that is gone"),
        pytest.param({"marker": Marker("demo-master-2", finished=False), "without": "demo-master-2"}, id="elsewhere"),
        pytest.param({"api": True}, id="something answers"),
        pytest.param({"facts": {"demo-master-3": {"etcd_data": True}}}, id="etcd data on another master"),
        pytest.param({"facts": {"demo-master-3": {"etcd_data": None}}}, id="a master that does not say"),
        pytest.param({"without": "demo-master-3", "known": frozenset(["demo-master-3"])}, id="a silent master"),
        pytest.param({"stranger": "demo-master-9"}, id="etcd data on a master that left the map"),
    ],
)
def test_never_a_second_etcd(world):
    minions = dict.fromkeys(NAMES, FRESH)
    for name, facts in world.pop("facts", {}).items():
        minions[name] = dataclasses.replace(FRESH, **facts)
    minions.pop(world.pop("without", ""), None)
    if stranger := world.pop("stranger", None):
        minions[stranger] = Facts(None, model.JOINED, True)
    observed = Observed(servers(), minions, **world)
    assert not of_kind(plan(DEMO, observed), INIT)
    assert waiting(DEMO, observed)


def test_an_interrupted_init_goes_on_where_it_began():
    minions = dict.fromkeys(NAMES, FRESH) | {"demo-master-2": Facts(None, model.PARTIAL, True)}
    observed = Observed(servers(), minions, marker=Marker("demo-master-2", finished=False))
    assert ids(of_kind(plan(DEMO, observed), INIT)) == ["init:demo-master-2"]
    # Its own API server may be up already.
    assert ids(of_kind(plan(DEMO, change(observed, api=True)), INIT)) == ["init:demo-master-2"]


def test_an_init_that_ended_while_nobody_watched_is_noted_not_repeated():
    observed = change(healthy(), marker=Marker(FIRST, finished=False), access=False, ready=None)
    assert not of_kind(plan(DEMO, observed), INIT)
    assert ids(runnable(plan(DEMO, observed))) == [f"access:{FIRST}"]


def test_a_lost_salt_master_gets_access_again():
    observed = change(healthy(), marker=Marker(None, finished=False), access=False, ready=None)
    assert ids(plan(DEMO, observed)) == [f"access:{FIRST}"]


def test_a_lost_master_joins_again_and_workers_do_not_wait_for_it():
    observed = healthy()
    ready = {name: True for name in observed.ready if name not in ("demo-master-2", "demo-worker-1")}
    observed = with_facts(observed, "demo-master-2", revision=None, kubeadm=model.NONE, etcd_data=False)
    observed = change(with_facts(observed, "demo-worker-1", kubeadm=model.NONE), ready=ready)
    steps = plan(DEMO, observed)
    assert ids(steps) == ["converge:demo-master-2", "join:demo-master-2", "join:demo-worker-1"]
    assert ids(runnable(steps)) == ["converge:demo-master-2", "join:demo-worker-1"]


@pytest.mark.parametrize("etcd", [True, False])
def test_no_master_joins_an_ill_etcd(etcd):
    observed = with_facts(healthy(), "demo-master-2", kubeadm=model.NONE, etcd_data=False)
    # The pod network has not reached the third yet; its etcd may be well.
    ready = {FIRST: True, "demo-master-3": False}
    steps = plan(DEMO, change(observed, ready=ready, etcd=etcd))
    (join,) = [step for step in steps if step.id == "join:demo-master-2"]
    assert ("etcd" in join.held) is not etcd
    assert (join in runnable(steps)) is etcd


def test_serving_nodes_are_changed_one_at_a_time():
    want = dataclasses.replace(DEMO, revisions=dict.fromkeys(NAMES, "new"))
    assert ids(runnable(plan(want, healthy()))) == [
        "converge:demo-gateway-1", "converge:demo-master-1", "converge:demo-worker-1", "converge:demo-worker-2",
    ]  # fmt: skip


def test_the_smoke_test_waits_for_every_server():
    observed = healthy()
    minions = {name: facts for name, facts in observed.minions.items() if name != "demo-worker-2"}
    (smoke,) = plan(DEMO, change(observed, minions=minions, smoke=None))
    assert smoke.kind == SMOKE
    assert smoke.held


LOST = change(
    healthy(), minions=dict.fromkeys(NAMES, FRESH), api=False, access=True, ready=None, etcd=False, addons=False
)


@pytest.mark.parametrize(
    "world",
    [
        LOST,
        change(LOST, servers={}, minions={}, known=frozenset()),
        change(LOST, marker=Marker(None, finished=False), access=False),
        change(LOST, servers=servers("demo-gateway-1"), minions={"demo-gateway-1": FRESH}),
    ],
)
def test_a_cluster_whose_masters_are_all_gone_says_how_to_begin_anew(world):
    assert of_kind(plan(DEMO, world), INIT) == []
    first = waiting(DEMO, world)[0]
    assert "salt-run managed_k8s.destroy demo && salt-cloud -m cluster.map" in first
    assert not any("haproxy" in sentence for sentence in waiting(DEMO, world))


@pytest.mark.parametrize(
    "world",
    [
        with_facts(LOST, "demo-master-2", etcd_data=True),
        with_facts(LOST, "demo-master-2", etcd_data=None),
        change(LOST, minions={name: FRESH for name in NAMES if name != "demo-master-2"}),
        change(LOST, servers=servers(*NAMES, "demo-master-7")),
        change(LOST, api=True),
        change(LOST, marker=Marker(FIRST, finished=False)),
        change(LOST, marker=None),
    ],
)
def test_nobody_is_told_to_begin_anew_while_data_may_be_left(world):
    assert not any("managed_k8s.destroy" in sentence for sentence in waiting(DEMO, world))


def test_says_that_the_api_is_down_and_still_converges():
    observed = with_facts(change(healthy(), api=False, ready=None), "demo-gateway-1", revision="old")
    assert ids(plan(DEMO, observed)) == ["converge:demo-gateway-1"]
    assert any("does not answer" in sentence for sentence in waiting(DEMO, observed))


# Random worlds

CURRENT = dataclasses.replace(DEMO, revisions=dict.fromkeys(NAMES, "current"))


@settings(max_examples=200)
@given(worlds())
def test_in_no_world_a_second_etcd_is_made(observed):
    inits = of_kind(plan(CURRENT, observed), INIT)
    event(f"inits: {len(inits)}")
    assert len(inits) <= 1
    for step in inits:
        marker = observed.marker
        begun_here = marker is not None and marker.master == step.node and not marker.finished
        assert marker is None or begun_here
        assert begun_here or not observed.api
        for name, facts in observed.minions.items():
            if "-master-" in name and not (begun_here and name == step.node):
                assert facts.etcd_data is False
        silent = {name for name in observed.servers if "-master-" in name and name not in observed.minions}
        assert not silent & observed.known


@settings(max_examples=200)
@given(worlds())
def test_in_every_world_the_plan_is_an_order_of_known_steps(observed):
    steps = plan(CURRENT, observed)
    assert_in_order(steps)
    assert len(of_kind(runnable(steps), INIT)) + sum("-master-" in s.node for s in of_kind(runnable(steps), JOIN)) <= 1


@settings(max_examples=200)
@given(worlds())
def test_in_every_world_everything_is_planned_or_explained(observed):
    """Whatever is not as it should be has a step, or a sentence that says why not."""
    steps, sentences = plan(CURRENT, observed), waiting(CURRENT, observed)
    planned = {step.node for step in steps}
    named = " ".join(sentences)
    for node in CURRENT.nodes:
        facts = observed.minions.get(node.id)
        if facts is None:
            assert f"{node.id}:" in named
        elif facts.revision != "current":
            assert f"converge:{node.id}" in ids(steps)
        elif node.role != GATEWAY and not facts.is_member and node.id not in (observed.ready or {}):
            assert node.id in planned or sentences
    assert all(sentence.strip() for sentence in sentences)


class World:
    """A cluster that does what steps say, or fails to."""

    def __init__(self, want, arrivals):
        self.want, self.arrivals = want, list(arrivals)
        self.observed = Observed({}, {})

    def arrive(self):
        if self.arrivals:
            name = self.arrivals.pop()
            self.update(servers={**self.observed.servers, name: "ACTIVE"})
            self.update(minions={**self.observed.minions, name: FRESH}, known=self.observed.known | {name})

    def update(self, **changes):
        self.observed = change(self.observed, **changes)

    def facts(self, name, **changes):
        self.observed = with_facts(self.observed, name, **changes)

    def run(self, step, fails):
        getattr(self, f"_{step.kind}")(step.node, fails)

    def _converge(self, name, fails):
        if not fails:
            self.facts(name, revision=self.want.revisions[name])

    def _init(self, name, fails):
        masters = [facts for other, facts in self.observed.minions.items() if "-master-" in other and other != name]
        assert not any(facts.etcd_data for facts in masters)
        # Which of its effects are there when it fails, nobody knows.
        self.update(marker=Marker(name, finished=not fails), api=True)
        self.facts(name, kubeadm=model.PARTIAL if fails else model.INITIALISED, etcd_data=True)

    def _access(self, name, fails):
        if not fails:
            self.update(access=True, marker=Marker(name, finished=True), ready={name: True}, etcd=True)

    def _join(self, name, fails):
        self.facts(name, kubeadm=model.PARTIAL if fails else model.JOINED, etcd_data="-master-" in name)
        if not fails:
            self.update(ready={**(self.observed.ready or {}), name: True})

    def _infrastructure(self, name, fails):
        self.update(infrastructure=None if fails else "infrastructure")

    def _addons(self, name, fails):
        self.update(addons=not fails)

    def _resources(self, name, fails):
        self.update(resources=None if fails else "resources")

    def _smoke(self, name, fails):
        assert set(self.observed.ready or {}) == {node.id for node in self.want.nodes if node.role != GATEWAY}
        self.update(smoke=None if fails else "smoke")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_from_every_start_it_ends_with_nothing_left_to_do(data):
    want = desired(data.draw(st.integers(1, 2)), data.draw(st.sampled_from([1, 3, 5])), data.draw(st.integers(0, 3)))
    world = World(want, data.draw(st.permutations([node.id for node in want.nodes])))
    failures = 12
    for _ in range(400):
        steps = runnable(plan(want, world.observed))
        if not steps and not world.arrivals:
            break
        if not steps or (world.arrivals and data.draw(st.booleans())):
            world.arrive()
            continue
        fails = failures > 0 and data.draw(st.integers(0, 3)) == 0
        failures -= fails
        world.run(data.draw(st.sampled_from(steps)), fails)
    assert plan(want, world.observed) == []
    assert waiting(want, world.observed) == []
