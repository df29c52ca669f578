"""Who is ill and what is done about it, by a world in which servers fail and remedies help, or do not."""

import dataclasses
import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from managed_k8s import names, plan
from managed_k8s.config.sections import Healing, HealingOfRole
from managed_k8s.execute import healing
from managed_k8s.model import cluster as model
from managed_k8s.model.cluster import Facts, Snapshot
from managed_k8s.model.health import Health, Patient, Signs
from managed_k8s.model.membership import Fleet, Member
from managed_k8s.model.steps import CREATE, DRAIN, INIT, LEAVE, REBOOT, REMOVE, REPLACE, RESTART, START, runnable
from managed_k8s.names import GATEWAY, MASTER, ROLES, WORKER
from managed_k8s.observe import diagnosis
from managed_k8s.state import healing as healing_state
from managed_k8s.state.change_requests import Intent
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from tests.support.clusters import DEMO, change, desired, healthy
from tests.support.fakes import Calls
from tests.support.settings import HEALING

NAMES = {role: [node.id for node in DEMO.nodes if node.role == role] for role in ROLES}
DESTRUCTIVE = (REBOOT, REPLACE)
LADDER = (RESTART, START, REBOOT, REPLACE)
WORKERS = desired(workers=5)
NOT_READY = "Kubernetes says that it is not Ready"


def well(name, **changes):
    node = names.parse(name)
    assert node
    return dataclasses.replace(Signs(name, node.role, f"id of {name}", "ACTIVE", "", minion=True), **changes)


def dead(name, **changes):
    """Without power, and Nova has not noticed."""
    return well(name, **{"outside": NOT_READY, "minion": False} | changes)


class Clinic:
    """Judges again and again, as the reconciler does."""

    def __init__(self, want=DEMO, rules=HEALING):
        self.names = {role: [node.id for node in want.nodes if node.role == role] for role in ROLES}
        self.rules, self.record, self.now, self.news = rules, {}, 1000.0, []
        self.api = self.smoke = True

    def look(self, *ill, after=0.0) -> Health:
        self.now += after
        every = {name: well(name) for group in self.names.values() for name in group} | {one.name: one for one in ill}
        found = diagnosis.judge(
            every.values(), self.names, self.record, self.rules, self.now, api=self.api, smoke=self.smoke
        )
        self.record = found.record
        self.news += [(subject, what) for subject, what, _ in found.news]
        return found

    def tries(self, name, what, server=None):
        entry = self.record["servers"].setdefault(name, {"tried": []})
        entry["tried"].append({"what": what, "at": self.now, "server": server or f"id of {name}"})

    def sick(self, *ill):
        """Return the patients once they have been ill for long enough."""
        self.look(*ill)
        return {patient.name: patient for patient in self.look(*ill, after=61).patients}


def test_all_is_well():
    found = Clinic().look()
    assert (found.patients, found.alarm, found.news, found.suspects) == ((), "", (), frozenset())


def test_a_silent_worker_is_rebooted_after_a_minute_and_then_given_up():
    clinic, ill = Clinic(), dead("demo-worker-1")
    (patient,) = clinic.look(ill).patients
    assert (patient.remedy, patient.held) == (REBOOT, "in 60 s, unless it is well by then")
    (patient,) = clinic.look(ill, after=59).patients
    assert patient.held == "in 1 s, unless it is well by then"
    (patient,) = clinic.look(ill, after=1).patients
    assert (patient.remedy, patient.held) == (REBOOT, "")
    assert patient.why == f"{NOT_READY}, its minion is silent"
    clinic.tries("demo-worker-1", REBOOT)
    (patient,) = clinic.look(ill, after=60).patients
    assert (patient.remedy, patient.held) == (REPLACE, "in 90 s, unless it is well by then")
    (patient,) = clinic.look(ill, after=90).patients
    assert (patient.remedy, patient.held) == (REPLACE, "")


def test_time_counts_from_the_last_sign_of_life_and_two_looks_agree():
    clinic = Clinic()
    ill = dead("demo-worker-1", outside="its kubelet is silent", heard=clinic.now - 70)
    assert clinic.look(ill).patients[0].held == "if the next look says so too"
    assert clinic.look(ill, after=5).patients[0].held == ""


@pytest.mark.parametrize(
    "signs",
    [
        pytest.param({"minion": False}, id="only the minion is silent"),
        pytest.param({"outside": NOT_READY}, id="only Kubernetes says so"),
        pytest.param({"status": "SHUTOFF"}, id="only Nova says so"),
        pytest.param({"outside": None, "minion": False}, id="Kubernetes cannot be asked, and the minion is silent"),
    ],
)
def test_one_source_is_not_enough(signs):
    clinic = Clinic()
    ill = well("demo-worker-1", **signs)
    assert clinic.sick(ill) == {}
    assert clinic.look(ill).suspects == {"demo-worker-1"}


def test_what_does_not_last_is_forgotten():
    clinic, ill = Clinic(), dead("demo-worker-1")
    clinic.look(ill)
    clinic.look(ill, after=50)
    clinic.look(after=5)
    assert clinic.look(ill, after=5).patients[0].held.startswith("in 60 s")
    assert clinic.news == []


@pytest.mark.parametrize(
    ("signs", "remedies"),
    [
        ({"minion": False}, [REBOOT, REPLACE]),
        ({"minion": False, "status": "SHUTOFF"}, [START, REPLACE]),
        ({"minion": False, "status": "ERROR"}, [REPLACE]),
        ({"ailments": ("kubelet",)}, [RESTART, REBOOT, REPLACE]),
        ({"ailments": ("etcd",)}, [REBOOT, REPLACE]),
        ({"ailments": ("disk",)}, [REPLACE]),
        ({"ailments": ("kubelet", "disk")}, [RESTART, REBOOT, REPLACE]),
        ({"ailments": ("low_disk",)}, [REPLACE]),
    ],
)
def test_rungs_that_cannot_help_are_left_out(signs, remedies):
    clinic, found = Clinic(), []
    ill = well("demo-master-2", outside=NOT_READY, **signs)
    clinic.look(ill)
    while True:
        (patient,) = clinic.look(ill, after=301).patients
        if not patient.remedy:
            break
        assert patient.held == ""
        found.append(patient.remedy)
        clinic.tries(ill.name, patient.remedy)
    assert found == remedies


def test_a_dead_service_is_started_on_the_servers_own_word_and_no_more():
    clinic, ill = Clinic(), well("demo-gateway-1", ailments=("keepalived",))
    assert clinic.look(ill).patients[0].held == "in 10 s, unless it is well by then"
    (patient,) = clinic.look(ill, after=10).patients
    assert (patient.remedy, patient.held, patient.why) == (RESTART, "", "keepalived does not run")
    clinic.tries(ill.name, RESTART)
    (patient,) = clinic.look(ill, after=300).patients
    assert (patient.remedy, patient.held) == ("", "no other source says so; nothing more is done unasked")


def test_healed_is_who_is_well_again_and_was_treated():
    clinic, ill = Clinic(), dead("demo-worker-1")
    clinic.sick(ill)
    clinic.tries("demo-worker-1", REBOOT)
    clinic.look(well("demo-worker-1", minion=False), after=20)
    assert clinic.news == [], "Kubernetes is content, but the minion is silent"
    clinic.look(after=5)
    assert clinic.news == [("demo-worker-1", "healed")]
    clinic.look(after=5)
    assert len(clinic.news) == 1


def test_a_replacement_counts_once_the_smoke_test_passed():
    clinic = Clinic()
    clinic.sick(dead("demo-worker-1"))
    clinic.tries("demo-worker-1", REPLACE)
    clinic.smoke = False
    clinic.look(well("demo-worker-1", server="new"), after=60)
    assert clinic.news == []
    clinic.smoke = True
    clinic.look(well("demo-worker-1", server="new"), after=60)
    assert clinic.news == [("demo-worker-1", "healed")]


def test_a_replacement_that_does_not_help_has_twice_as_long():
    clinic = Clinic()
    clinic.sick(dead("demo-worker-1"))
    clinic.tries("demo-worker-1", REPLACE)
    ill = dead("demo-worker-1", server="new")
    assert clinic.look(ill, after=60).patients[0].held == "in 120 s, unless it is well by then"
    clinic.look(ill, after=119)
    (patient,) = clinic.look(ill, after=1).patients
    assert (patient.remedy, patient.held) == (REBOOT, "")


def test_it_is_given_up_after_so_many_attempts_and_said_once():
    clinic, ill = Clinic(), dead("demo-worker-1")
    clinic.sick(ill)
    for _ in range(HEALING.worker.attempts):
        clinic.tries("demo-worker-1", REBOOT)
    for _ in range(3):
        (patient,) = clinic.look(ill, after=10 * 3600).patients
    assert patient.remedy == ""
    assert "salt-run managed_k8s.replace demo-worker-1" in patient.held
    assert clinic.news == [("demo-worker-1", "given_up")]
    clinic.look(after=5)
    assert clinic.news[-1] == ("demo-worker-1", "healed")
    clinic.look(after=3600)
    assert clinic.record["servers"] == {}


def test_attempts_of_earlier_outages_count_for_a_while():
    clinic, ill = Clinic(), dead("demo-worker-1")
    for _ in range(HEALING.worker.attempts):
        clinic.sick(ill)
        clinic.tries("demo-worker-1", REBOOT)
        clinic.look(after=30)
    assert clinic.sick(ill)["demo-worker-1"].remedy == ""
    assert clinic.news[-1] == ("demo-worker-1", "given_up")


def test_when_many_are_ill_at_once_nothing_is_rebooted_but_what_is_off_is_started():
    clinic = Clinic(WORKERS)
    ill = [dead(f"demo-worker-{n}") for n in (1, 2)] + [dead("demo-worker-3", status="SHUTOFF")]
    patients = clinic.sick(*ill)
    assert (
        patients["demo-worker-1"].held == "3 of 5 workers are ill at once: demo-worker-1, demo-worker-2, demo-worker-3"
    )
    assert (patients["demo-worker-3"].remedy, patients["demo-worker-3"].held) == (START, "")
    assert clinic.news == [("cluster", "alarm")]
    patients = {p.name: p for p in clinic.look(*ill[:2], after=5).patients}
    assert not patients["demo-worker-1"].held
    assert clinic.news == [("cluster", "alarm"), ("cluster", "alarm_over")]


def test_without_the_api_only_what_is_off_is_started():
    clinic = Clinic()
    clinic.api = False
    ill = [well(name, outside=None, minion=False, status="SHUTOFF") for name in NAMES[MASTER]]
    ill.append(well("demo-worker-1", outside=None, minion=False, status="ERROR"))
    patients = clinic.sick(*ill)
    assert [(patients[one.name].remedy, patients[one.name].held) for one in ill[:3]] == [(START, "")] * 3
    assert patients["demo-worker-1"].held == "the Kubernetes API cannot be asked"


def test_a_share_of_workers_is_replaced_within_a_window():
    clinic = Clinic(WORKERS)
    for n in (1, 2):
        clinic.sick(dead(f"demo-worker-{n}"))
        clinic.tries(f"demo-worker-{n}", REPLACE)
        clinic.look(after=60)
    ill = dead("demo-worker-3", status="ERROR")
    assert "within 30 minutes so many workers are replaced at most" in clinic.sick(ill)["demo-worker-3"].held
    clinic.look(ill, after=1800)
    assert clinic.look(ill, after=5).patients[0].held == ""


def test_of_two_the_share_lets_one():
    clinic = Clinic(WORKERS, Healing(worker=HealingOfRole(share_percent=100, window_minutes=1)))
    clinic.rules = Healing(worker=HealingOfRole(share_percent=40, window_minutes=1))
    patients = clinic.sick(dead("demo-worker-1", status="ERROR"), dead("demo-worker-2", status="ERROR"))
    assert [patient.held for patient in patients.values()] == ["", ""]
    clinic.tries("demo-worker-3", REPLACE)
    held = [p.held for p in clinic.look(*(dead(f"demo-worker-{n}", status="ERROR") for n in (1, 2)), after=5).patients]
    assert held[0] == ""
    assert "so many workers" in held[1]


def test_one_master_at_a_time():
    clinic = Clinic(desired(masters=5))
    patients = clinic.sick(dead("demo-master-2"), dead("demo-master-4"))
    assert [p.held for p in patients.values()] == ["", "one at a time: demo-master-2 is first"]
    clinic.tries("demo-master-4", REBOOT)
    patients = {p.name: p for p in clinic.look(dead("demo-master-2"), dead("demo-master-4"), after=5).patients}
    assert patients["demo-master-2"].held == "one at a time: demo-master-4 is first", "what was begun with is ended"


@pytest.mark.parametrize("status", ["HARD_REBOOT", "RESCUE", "SHELVED_OFFLOADED"])
def test_what_somebody_works_on_is_left_alone(status):
    assert Clinic().sick(dead("demo-worker-1", status=status))["demo-worker-1"].held == f"its server is {status}"


def test_switched_off_it_says_nothing():
    assert Clinic(rules=Healing(enabled=False)).rules
    found = diagnosis.judge([dead("demo-worker-1")], NAMES, {}, Healing(enabled=False), 0, api=True, smoke=True)
    assert found == Health()


# Steps


def ill(*patients, observed=None, **changes):
    return change(observed or healthy(), health=Health(tuple(patients)), **changes)


def only(steps, *kinds):
    return [step for step in steps if step.kind in kinds]


def test_a_patient_is_a_step():
    observed = ill(Patient("demo-worker-1", "its minion is silent", REBOOT))
    (step,) = plan.plan(DEMO, observed)
    assert (step.id, step.held) == ("reboot:demo-worker-1", "")
    assert step.description == "reboot demo-worker-1: its minion is silent"
    held = ill(Patient("demo-worker-1", "its minion is silent", REBOOT, "in 5 s"))
    assert [step.held for step in plan.plan(DEMO, held)] == ["in 5 s"]


def test_what_is_not_done_is_said():
    observed = ill(Patient("demo-worker-1", "it is ill", held="given up; do this"))
    assert plan.plan(DEMO, observed) == []
    assert "demo-worker-1: it is ill; given up; do this" in plan.waiting(DEMO, observed)
    alarmed = change(healthy(), health=Health(alarm="3 of 5 workers are ill at once"))
    assert plan.waiting(DEMO, alarmed) == ["nothing is rebooted or replaced: 3 of 5 workers are ill at once"]


@pytest.mark.parametrize("kind", DESTRUCTIVE)
def test_a_master_without_which_there_is_no_quorum_is_not_touched(kind):
    members = tuple(Member(str(n), f"demo-master-{n}", healthy=n != 3) for n in (1, 2, 3))
    observed = ill(Patient("demo-master-2", "x", kind), fleet=Fleet(members=members))
    (step,) = only(plan.plan(DEMO, observed), kind)
    assert "quorum" in step.held
    members = tuple(Member(str(n), f"demo-master-{n}", healthy=n != 2) for n in (1, 2, 3))
    observed = ill(Patient("demo-master-2", "x", kind), fleet=Fleet(members=members))
    assert [step.held for step in only(plan.plan(DEMO, observed), kind)] == [""]
    unknown = ill(Patient("demo-master-2", "x", kind), fleet=Fleet(members=None))
    assert "etcd's members" in only(plan.plan(DEMO, unknown), kind)[0].held


def test_the_only_master_may_be_rebooted_and_not_replaced():
    want = desired(masters=1)
    fleet = Fleet(members=(Member("1", "demo-master-1"),))
    for kind, words in ((REBOOT, ""), (REPLACE, "only member")):
        observed = ill(Patient("demo-master-1", "x", kind), observed=healthy(want), fleet=fleet)
        (step,) = only(plan.plan(want, observed), kind)
        assert words in step.held
        assert bool(words) == bool(step.held)


def test_a_dead_node_is_not_replaced_before_kubernetes_noticed():
    patient = Patient("demo-worker-1", "x", REPLACE)
    observed = change(healthy(), health=Health((patient,), silent=frozenset({patient.name})))
    assert [step.held for step in only(plan.plan(DEMO, observed), REPLACE)] == ["Kubernetes has not noticed yet"]
    noticed = change(observed, ready={**(observed.ready or {}), patient.name: False})
    assert [step.held for step in only(plan.plan(DEMO, noticed), REPLACE)] == [""]


def test_a_full_disk_that_silences_the_minion_costs_the_server_though_its_node_is_ready():
    clinic, full = Clinic(), dead("demo-worker-1", outside="Kubernetes says that its disk is full")
    clinic.sick(full)
    clinic.tries(full.name, REBOOT)
    found = clinic.look(full, after=151)
    minions = {name: facts for name, facts in healthy().minions.items() if name != full.name}
    steps = only(plan.plan(DEMO, change(healthy(), health=found, minions=minions)), REPLACE)
    assert [(step.node, step.held) for step in steps] == [(full.name, "")]


def test_a_kubelet_has_five_minutes_to_make_room():
    clinic, full = (
        Clinic(),
        well("demo-worker-1", ailments=("low_disk",), outside="Kubernetes says that its disk is full"),
    )
    clinic.look(full)
    (patient,) = clinic.look(full, after=290).patients
    assert (patient.remedy, patient.held) == (REPLACE, "in 10 s, unless it is well by then")
    assert patient.why == "Kubernetes says that its disk is full, little of its disk is free"
    (patient,) = clinic.look(full, after=11).patients
    assert (patient.remedy, patient.held) == (REPLACE, "")
    clinic.look(well("demo-worker-1"), after=5)
    assert clinic.news == [], "nothing was done, so nobody is told"


def test_a_gateway_whose_disk_is_full_to_two_is_made_anew_and_one_is_not_enough():
    name, clinic = "demo-gateway-2", Clinic()
    (patient,) = clinic.look(well(name, ailments=("disk",))).patients
    assert (patient.remedy, patient.why) == ("", "its disk is full")
    full = well(name, ailments=("disk",), outside="SSH says that its disk is full")
    clinic.look(full)
    found = clinic.look(full, after=61)
    assert [step.node for step in only(plan.plan(DEMO, change(healthy(), health=found)), REPLACE)] == [name]
    assert Clinic().look(well(name, outside="SSH says that its disk is full")).patients == ()


def test_a_master_whose_etcd_does_not_start_any_more_is_rebooted_and_then_leaves_etcd_before_it_is_made_anew():
    name, clinic = "demo-master-2", Clinic()
    ill_etcd = well(name, outside="the other masters say that its etcd is ill", ailments=("etcd",))
    members = tuple(Member(str(n), f"demo-master-{n}", healthy=n != 2) for n in (1, 2, 3))
    seen = change(healthy(), fleet=Fleet(members=members), etcd=False)

    clinic.look(ill_etcd)
    found = clinic.look(ill_etcd, after=61)
    assert [(step.kind, step.held) for step in only(plan.plan(DEMO, change(seen, health=found)), *LADDER)] == [
        (REBOOT, "")
    ]
    clinic.tries(name, REBOOT)
    found = clinic.look(ill_etcd, after=151)
    assert [(step.kind, step.held) for step in only(plan.plan(DEMO, change(seen, health=found)), *LADDER)] == [
        (REPLACE, "")
    ]
    condemned = change(seen, fleet=Fleet(members=members, condemned={name: "its etcd is ill"}))
    steps = [step for step in plan.plan(DEMO, condemned) if step.node == name]
    assert [(step.kind, step.held) for step in steps] == [(kind, "") for kind in (DRAIN, LEAVE, REMOVE, CREATE)]
    assert all(later.needs[-1:] == (earlier.id,) for earlier, later in pairwise(steps))


# A world in which things fail


class World:
    """A cluster whose servers fail, whatever the plan does about it; remedies help by chance.

    Its API answers while a quorum of its masters does.
    """

    def __init__(self, seed, workers, masters, failures, helps):
        self.random = random.Random(seed)
        self.want = desired(masters=masters, workers=workers)
        self.clinic = Clinic(self.want)
        self.helps = helps
        self.states = {node.id: "well" for node in self.want.nodes}
        self.server = {node.id: 0 for node in self.want.nodes}
        self.failures = failures
        self.masters = [node.id for node in self.want.nodes if node.role == MASTER]

    def fail(self):
        for _ in range(self.failures):
            name = self.random.choice(sorted(self.states))
            self.states[name] = self.random.choice(["dead", "off", "error", "kubelet", "cut"])

    def up(self, name):
        return self.states[name] == "well"

    @property
    def api(self):
        return sum(map(self.up, self.masters)) > len(self.masters) // 2

    def signs(self, name):
        state, role = self.states[name], names.parse(name).role
        outside = "" if state == "well" else "ill"
        found = well(name, outside=outside if self.api or role == GATEWAY else None, server=str(self.server[name]))
        return dataclasses.replace(
            found,
            minion=state in ("well", "kubelet"),
            ailments=("kubelet",) if state == "kubelet" else (),
            status={"off": "SHUTOFF", "error": "ERROR"}.get(state, "ACTIVE"),
        )

    def observed(self):
        self.clinic.api = self.api
        health = self.clinic.look(*map(self.signs, self.states), after=60)
        up = [name for name in self.states if self.up(name)]
        base = healthy(self.want)
        return dataclasses.replace(
            base,
            minions={name: facts for name, facts in base.minions.items() if name in up},
            servers={name: self.signs(name).status for name in self.states},
            api=self.api,
            ready={name: self.up(name) for name in base.ready or {}} if self.api else None,
            etcd=all(map(self.up, self.masters)),
            fleet=Fleet(
                members=tuple(Member(name, name, healthy=self.up(name)) for name in self.masters) if self.api else None
            ),
            health=health,
        )

    def do(self, step):
        """Run a step; it helps, or does not."""
        if step.kind not in LADDER:
            return
        self.clinic.tries(step.node, step.kind, str(self.server[step.node]))
        if step.kind == REPLACE:
            self.server[step.node] += 1
        self.states[step.node] = "well" if self.random.random() < self.helps else self.states[step.node]


worlds = st.builds(
    World,
    seed=st.integers(0, 10**6),
    workers=st.integers(1, 6),
    masters=st.sampled_from([1, 3, 5]),
    failures=st.integers(0, 6),
    helps=st.sampled_from([0.0, 0.5, 1.0]),
)


@settings(deadline=None, max_examples=60)
@given(worlds)
def test_whatever_fails_no_rule_is_broken_and_it_ends(world):
    world.fail()
    tried = 0
    for _ in range(120):
        observed = world.observed()
        steps = runnable(plan.plan(world.want, observed))
        assert not only(steps, INIT), "there is an etcd"
        hard = [step for step in steps if step.kind in (*DESTRUCTIVE, REMOVE, LEAVE)]
        masters = [step.node for step in hard if names.is_master(step.node)]
        assert len(masters) <= 1, "one master at a time"
        for name in masters:
            healthy_without = sum(world.up(other) for other in world.masters if other != name)
            assert world.masters == [name] or healthy_without > len(world.masters) // 2, "quorum"
        assert not hard or world.api, "nothing hard without the API"
        workers = [step for step in hard if names.parse(step.node).role == WORKER]
        count = len(world.clinic.names[WORKER])
        assert len(workers) <= max(1, int(count * 0.4)), "a share of the workers"
        for step in steps:
            world.do(step)
            tried += step.kind in LADDER
        if all(map(world.up, world.states)) and not steps:
            break
    else:
        # What is left was given up, needs another source, or an operator.
        assert not runnable(plan.plan(world.want, world.observed()))
    most = sum(HEALING.of(role).attempts * len(group) for role, group in world.clinic.names.items())
    assert tried <= most * 2
    if all(map(world.up, world.states)):
        assert plan.plan(world.want, world.observed()) == []


@settings(deadline=None, max_examples=40)
@given(worlds)
def test_single_failures_are_healed_when_remedies_help(world):
    world.failures, world.helps = 1, 1.0
    world.fail()
    for _ in range(30):
        for step in runnable(plan.plan(world.want, world.observed())):
            world.do(step)
    hopeless = len(world.masters) == 1 and not world.up(world.masters[0])
    assert hopeless or all(map(world.up, world.states))


# Running them


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path, "demo")
    made.write("inventory.json", {"demo-worker-1": {"id": "w1"}})
    return made


@pytest.mark.parametrize(
    ("kind", "calls"),
    [
        (RESTART, [("run", "demo-worker-1", "restart_failed_services")]),
        (START, [("start", "demo-worker-1")]),
        (REBOOT, [("reboot", "demo-worker-1")]),
        (REPLACE, []),
    ],
)
def test_what_is_done_is_noted_first(store, kind, calls):
    made: Any = Calls()
    observed = ill(Patient("demo-worker-1", "its minion is silent", kind))
    healing.Healing(store, made, made).actions()[kind]("demo-worker-1", Snapshot(DEMO, observed))
    assert made.made == calls
    (attempt,) = healing_state.read(store)["servers"]["demo-worker-1"]["tried"]
    assert (attempt["what"], attempt["server"]) == (kind, "w1")
    condemned = {"demo-worker-1": {"id": "w1", "why": "its minion is silent"}} if kind == REPLACE else {}
    assert Intent(store).condemned() == condemned


def test_what_the_cloud_refuses_is_tried_again(store):
    made: Any = Calls()
    made.reboot = lambda name: 1 / 0
    with pytest.raises(ZeroDivisionError):
        healing.Healing(store, made, made).actions()[REBOOT]("demo-worker-1", Snapshot(DEMO, healthy()))
    (attempt,) = healing_state.read(store)["servers"]["demo-worker-1"]["tried"]
    assert attempt["refused"]
    clinic = Clinic()
    clinic.sick(dead("demo-worker-1"))
    clinic.tries("demo-worker-1", REBOOT)
    clinic.record["servers"]["demo-worker-1"]["tried"][0]["refused"] = True
    (patient,) = clinic.look(dead("demo-worker-1"), after=5).patients
    assert (patient.remedy, patient.held) == (REBOOT, "")


def test_an_attempt_that_began_after_the_look_is_not_lost(store):
    healing_state.tried(store, "demo-worker-1", "w1", REBOOT)
    known = healing_state.read(store)["servers"]["demo-worker-1"]["tried"][0]
    seen = Health(record={"servers": {"demo-worker-1": {"tried": [known], "since": 5}}}, time=known["at"])
    healing_state.tried(store, "demo-worker-1", "w1", REPLACE)
    healing_state.keep(store, History(store), dataclasses.replace(seen, news=(("demo-worker-1", "given_up", "why"),)))
    kept = healing_state.read(store)["servers"]["demo-worker-1"]
    assert [attempt["what"] for attempt in kept["tried"]] == [REBOOT, REPLACE]
    assert kept["since"] == 5
    assert [entry["what"] for entry in History(store).last(5)] == ["given_up"]
    healing_state.keep(store, History(store), Health())
    assert healing_state.read(store)["servers"]["demo-worker-1"] == kept


def test_facts_say_what_ails_a_server():
    assert Facts("r", model.JOINED, True, "p", ("kubelet",)).ailments == ("kubelet",)
