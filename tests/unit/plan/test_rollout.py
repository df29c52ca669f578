"""The order in which versions, reboots and certificates are rolled through a cluster."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from managed_k8s.model.cluster import Facts
from managed_k8s.model.rollout import Versions, is_older
from managed_k8s.model.steps import CONVERGE, KUBELET, MAINTAIN, RENEW, SMOKE, UPGRADE, Step, runnable
from managed_k8s.plan import plan, waiting
from managed_k8s.plan.startable import startable
from tests.support.clusters import change, ids
from tests.support.plans import assert_in_order
from tests.support.rollouts import DEMO, MASTERS, NEW, OLD, WORKERS, desired, rolling, running, runs

ROLLING = (UPGRADE, KUBELET, MAINTAIN, RENEW)


def next_ids(observed, want=DEMO):
    return ids(runnable(plan(want, observed)))


def test_a_cluster_that_has_its_version_needs_nothing():
    assert plan(DEMO, running()) == []
    assert waiting(DEMO, running()) == []


def test_the_whole_upgrade_is_planned_at_once_and_begins_with_one_master():
    steps = plan(DEMO, running(target=NEW, batch=2))
    assert ids(steps) == [
        *(f"upgrade:{name}" for name in MASTERS), *(f"kubelet:{name}" for name in MASTERS + WORKERS),
    ]  # fmt: skip
    assert ids(runnable(steps)) == ["upgrade:demo-master-1"]
    assert steps[0].description == f"upgrade the control plane on demo-master-1 to {NEW}"


def test_addons_follow_the_last_control_plane_and_come_before_kubelets():
    steps = {step.id: step for step in plan(DEMO, change(running(target=NEW), addons=False, smoke=None))}
    assert set(steps["addons"].needs) >= {f"upgrade:{name}" for name in MASTERS}
    assert "addons" in steps["kubelet:demo-master-1"].needs
    assert {f"kubelet:{name}" for name in WORKERS} < set(steps[SMOKE].needs)


def test_nodes_are_prepared_before_anything_is_upgraded():
    observed = running(target=NEW)
    stale = {**observed.minions, "demo-worker-2": Facts("before", "joined")}
    (first, *_) = plan(DEMO, change(observed, minions=stale))
    assert first.id == "converge:demo-worker-2"
    assert next_ids(change(observed, minions=stale)) == ["converge:demo-worker-2"]


def test_one_control_plane_after_the_other_then_kubelets():
    observed = runs(running(target=NEW), config=NEW, control_planes={MASTERS[0]: NEW})
    assert next_ids(observed) == ["upgrade:demo-master-2"]
    observed = runs(observed, control_planes=dict.fromkeys(MASTERS, NEW))
    assert next_ids(observed) == ["kubelet:demo-master-1"]
    observed = runs(observed, kubelets=dict.fromkeys(MASTERS, NEW))
    assert next_ids(observed) == ["kubelet:demo-worker-1"]
    assert next_ids(rolling(observed, batch=3)) == [f"kubelet:{name}" for name in WORKERS[:3]]


def test_what_was_begun_ends_before_something_new_begins():
    observed = runs(running(target=NEW), NEW, dict.fromkeys(MASTERS, NEW), dict.fromkeys(MASTERS, NEW))
    observed = rolling(observed, batch=2, begun={"demo-worker-3": KUBELET})
    assert next_ids(observed) == ["kubelet:demo-worker-3"]
    assert next_ids(rolling(running(target=NEW), begun={"demo-master-2": UPGRADE})) == ["upgrade:demo-master-2"]


def test_a_crash_between_the_pods_and_kubeadms_note_goes_on():
    """Control planes run the new version, and the ConfigMap still has the old one."""
    observed = runs(running(target=NEW), control_planes=dict.fromkeys(MASTERS, NEW))
    assert next_ids(observed) == ["upgrade:demo-master-1"]


def test_a_node_that_was_begun_may_be_ill_itself():
    observed = rolling(running(target=NEW), begun={"demo-master-1": UPGRADE})
    ill = change(observed, ready={**observed.ready, "demo-master-1": False}, etcd=False)
    assert next_ids(ill) == ["upgrade:demo-master-1"]
    two = runs(running(target=NEW), NEW, dict.fromkeys(MASTERS, NEW), dict.fromkeys(MASTERS, NEW))
    two = rolling(two, batch=2, begun=dict.fromkeys(WORKERS[:2], KUBELET))
    two = change(two, ready={**two.ready, **dict.fromkeys(WORKERS[:2], False)})
    assert next_ids(two) == [f"kubelet:{name}" for name in WORKERS[:2]]


@pytest.mark.parametrize("name", ["demo-master-3", "demo-worker-4"])
def test_it_stops_at_the_first_node_that_is_ill(name):
    observed = running(target=NEW)
    ill = change(observed, ready={**observed.ready, name: False})
    assert next_ids(ill) == []
    assert all(step.held == f"first {name} must be Ready" for step in plan(DEMO, ill))
    gone = {other: ready for other, ready in observed.ready.items() if other != name}
    assert not set(ROLLING) & {step.kind for step in runnable(plan(DEMO, change(observed, ready=gone)))}


def test_it_waits_for_etcd():
    assert plan(DEMO, change(running(target=NEW), etcd=False))[0].held == (
        "first every master must have a healthy etcd"
    )


def test_what_nobody_knows_is_not_upgraded_on():
    observed = running(target=NEW)
    half = Versions(NEW, dict.fromkeys(MASTERS[:2], NEW), observed.rollout.versions.kubelets)
    steps = plan(DEMO, rolling(observed, versions=half))
    assert ids(runnable(steps)) == []
    assert steps[0].held == "it is not known what runs on demo-master-3"


def test_no_minor_version_is_skipped_whatever_is_on_record():
    steps = plan(DEMO, running(target="1.38.0"))
    assert ids(runnable(steps)) == []
    assert "more than one minor version" in steps[0].held


def test_an_upgrade_that_was_halted_changes_no_version():
    steps = plan(DEMO, running(target=NEW, halted="a way back was asked for"))
    assert {step.held for step in steps} == {"a way back was asked for"}


def test_nothing_is_ever_made_older():
    observed = runs(running(), kubelets={"demo-worker-2": NEW})
    assert plan(DEMO, observed) == []
    assert waiting(DEMO, observed) == [
        "demo-worker-2: its kubelet 1.37.2 is newer than the cluster, 1.36.3; have it made anew: "
        "salt-run managed_k8s.replace demo-worker-2"
    ]


def test_a_forgotten_cordon_is_undone():
    assert ids(plan(DEMO, running(cordoned=frozenset(["demo-worker-2"])))) == ["kubelet:demo-worker-2"]


def test_a_node_whose_turn_it_is_is_converged_by_its_own_step():
    observed = rolling(running(target=NEW), begun={"demo-worker-2": KUBELET})
    stale = {**observed.minions, "demo-worker-2": Facts("before", "joined")}
    assert not [step for step in plan(DEMO, change(observed, minions=stale)) if step.kind == CONVERGE]


# Reboots


def test_servers_are_rebooted_gateways_first_workers_in_batches():
    names = [node.id for node in DEMO.nodes]
    observed = running(maintenance=dict.fromkeys(names, "reboot"), batch=2)
    steps = plan(DEMO, observed)
    assert sorted(step.node for step in steps) == sorted(names)
    assert ids(runnable(steps)) == ["maintain:demo-gateway-1"]
    left = dict.fromkeys(WORKERS, "reboot")
    assert next_ids(rolling(observed, maintenance=left)) == [f"maintain:{name}" for name in WORKERS[:2]]


def test_the_only_gateway_that_serves_is_not_rebooted():
    observed = running(maintenance={"demo-gateway-1": "reboot"})
    silent = {name: facts for name, facts in observed.minions.items() if name != "demo-gateway-2"}
    held = [step.held for step in plan(DEMO, change(observed, minions=silent)) if step.kind == MAINTAIN]
    assert held == ["demo-gateway-1 is the only gateway that serves; add another one to cluster.map first"]


def test_reboots_come_after_an_upgrade():
    steps = {step.id: step for step in plan(DEMO, running(target=NEW, maintenance={"demo-worker-1": "reboot"}))}
    assert "kubelet:demo-worker-4" in steps["maintain:demo-worker-1"].needs


# Certificates


def test_certificates_are_renewed_one_master_at_a_time_the_first_to_end_first():
    steps = plan(DEMO, running(expiring={"demo-master-1": 20, "demo-master-3": 12}))
    assert ids(steps) == ["renew:demo-master-3", "renew:demo-master-1"]
    assert next_ids(running(expiring={"demo-master-1": 20, "demo-master-3": 12})) == ["renew:demo-master-3"]
    ill = change(running(expiring={"demo-master-1": 20}), etcd=False)
    assert [step.held for step in plan(DEMO, ill)] == ["first every master must have a healthy etcd"]


def test_certificates_that_ended_are_renewed_without_an_api():
    down = change(running(expiring=dict.fromkeys(MASTERS, -3)), ready=None, etcd=False, api=False)
    assert next_ids(down) == ["renew:demo-master-1"]


def test_one_change_of_the_control_plane_at_a_time():
    """What may start at once is started at once, but for masters."""

    steps = [Step(f"{kind}:{name}", kind, name, "") for kind, name in zip(ROLLING[:3], MASTERS, strict=True)]
    chosen = startable([*steps, Step("renew:demo-master-3", RENEW, "demo-master-3", "")], [])
    assert [step.node for step in chosen] == ["demo-master-1"]
    workers = [Step(f"kubelet:{name}", KUBELET, name, "") for name in WORKERS[:2]]
    assert len(startable(workers, [])) == 2


# In any world

VERSIONS = st.sampled_from([OLD, NEW, "1.38.0", "1.35.9"])


@st.composite
def worlds(draw):
    some = st.dictionaries(st.sampled_from([*MASTERS, *WORKERS]), st.sampled_from(ROLLING), max_size=4)
    versions = Versions(
        draw(VERSIONS | st.just("")),
        draw(st.dictionaries(st.sampled_from(MASTERS), VERSIONS)),
        draw(st.dictionaries(st.sampled_from(MASTERS + WORKERS), VERSIONS)),
    )
    return change(
        running(
            target=draw(VERSIONS),
            versions=versions,
            begun=draw(some),
            cordoned=draw(st.frozensets(st.sampled_from(WORKERS))),
            maintenance=draw(st.dictionaries(st.sampled_from([node.id for node in DEMO.nodes]), st.just("reboot"))),
            expiring=draw(st.dictionaries(st.sampled_from(MASTERS), st.integers(-5, 30))),
            batch=draw(st.integers(1, 3)),
        ),
        ready=draw(st.none() | st.dictionaries(st.sampled_from(MASTERS + WORKERS), st.booleans())),
        etcd=draw(st.booleans()),
        addons=draw(st.booleans()),
    )


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_in_no_world_a_rule_is_broken(observed):
    versions, target = observed.rollout.versions, observed.rollout.target
    steps = plan(DEMO, observed)
    assert_in_order(steps)
    now = [step for step in runnable(steps) if step.kind in ROLLING]
    assert sum("-master-" in step.node for step in startable(steps, [])
               if step.kind in ROLLING) <= 1  # fmt: skip
    assert sum("-gateway-" in step.node for step in now) <= 1
    upgrades = [step for step in now if step.kind == UPGRADE]
    kubelets = [step for step in now if step.kind == KUBELET]
    assert not (upgrades and kubelets)
    for kind in (KUBELET, MAINTAIN):
        at_once = [step for step in now if step.kind == kind and "-worker-" in step.node]
        begun = [step for step in at_once if observed.rollout.begun.get(step.node) == kind]
        assert at_once == begun or (not begun and len(at_once) <= observed.rollout.batch)
    for step in kubelets:
        if is_older(versions.kubelets[step.node], target):
            # No kubelet gets newer than an API server, or than what the cluster says that it is.
            members = [name for name in versions.kubelets if "-master-" in name]
            assert not any(is_older(versions.control_planes[name], target) for name in members)
            assert not is_older(versions.config, target)
    for step in [*upgrades, *kubelets, *(step for step in now if step.kind == MAINTAIN)]:
        assert observed.ready is not None
        excused = {name for name, kind in observed.rollout.begun.items() if kind == step.kind}
        excused = excused if step.node in excused else set()
        assert all(observed.ready.get(name) for name in MASTERS + WORKERS if name not in excused)


class World:
    """A cluster that does what steps say, or dies in between."""

    def __init__(self, want, batch):
        self.want = want
        self.observed = running(want, target=NEW, batch=batch)
        self.observed = change(self.observed, addons=False, resources=None, smoke=None)

    def run(self, step, fails):
        name, rollout = step.node, self.observed.rollout
        if step.kind in (UPGRADE, KUBELET):
            begun = {**rollout.begun, name: step.kind}
            self.observed = rolling(self.observed, begun=begun)
        if fails:
            if step.node:
                self.observed = change(self.observed, ready={**self.observed.ready, name: False})
            return
        self.observed = change(self.observed, ready={**self.observed.ready, **({name: True} if name else {})})
        done = {other: kind for other, kind in self.observed.rollout.begun.items() if other != name}
        self.observed = rolling(self.observed, begun=done)
        if step.kind == UPGRADE:
            self.observed = runs(self.observed, config=NEW, control_planes={name: NEW})
        elif step.kind == KUBELET:
            assert not any(is_older(one, NEW) for one in self.observed.rollout.versions.control_planes.values())
            assert self.observed.addons
            self.observed = runs(self.observed, kubelets={name: NEW})
        else:
            value = True if step.kind == "addons" else step.kind
            self.observed = change(self.observed, **{step.kind: value})


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_an_upgrade_that_is_interrupted_again_and_again_ends(data):
    want = desired(data.draw(st.sampled_from([1, 3, 5])), data.draw(st.integers(0, 5)))
    world, failures = World(want, data.draw(st.integers(1, 3))), 8
    for _ in range(200):
        steps = runnable(plan(want, world.observed))
        if not steps:
            break
        fails = failures > 0 and data.draw(st.integers(0, 2)) == 0
        failures -= fails
        world.run(data.draw(st.sampled_from(steps)), fails)
    assert plan(want, world.observed) == []
    assert set(world.observed.rollout.versions.kubelets.values()) == {NEW}
