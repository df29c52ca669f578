"""How what is lost is brought back: with the least loss, and never with two databases at once."""

import dataclasses
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_k8s import names
from managed_k8s.restore import plan as planning
from managed_k8s.restore.plan import Left, Plan, RestoreError, Situation
from tests.support import backups

NOW = 1795527000.0
NAMES = [
    "demo-gateway-1", "demo-gateway-2", "demo-master-1", "demo-master-2", "demo-master-3", "demo-worker-1",
    "demo-worker-2",
]  # fmt: skip
NODES = [node for name in NAMES if (node := names.parse(name))]
MASTERS = [name for name in NAMES if "-master-" in name]
WELL = Left("joined", database=True, quorum=True, revision=900, index=50)
ALONE = Left("joined", database=True, quorum=False, revision=900, index=50)
OTHERS = {
    **{name: Left() for name in NAMES[:2]},
    **{name: Left("joined") for name in NAMES[5:]},
}  # fmt: skip
RECORD = backups.record(NOW - 600, revision=700)


def situation(left, gone=(), others=OTHERS):
    servers = {name: f"id-{name}" for name in NAMES if name not in gone}
    return Situation(NODES, servers, {name: one for name, one in {**others, **left}.items() if name not in gone})


def test_a_cluster_that_is_well_is_left_alone():
    found = situation(dict.fromkeys(MASTERS, WELL))
    assert not planning.needs_backup(found, asked=False)
    with pytest.raises(RestoreError, match="nothing is lost"):
        planning.make(found, None, False, NOW)


def test_a_lost_quorum_loses_nothing_that_a_survivor_has():
    found = situation({"demo-master-3": ALONE}, gone=MASTERS[:2])
    assert not planning.needs_backup(found, asked=False)
    plan = planning.make(found, None, False, NOW)
    assert (plan.base, plan.own, plan.backup, plan.fresh) == ("demo-master-3", True, "", False)
    assert (plan.gone, plan.make, plan.fence, plan.reset, plan.kubelets) == (tuple(MASTERS[:2]), (), {}, (), ())
    assert list(plan.steps()) == [planning.DATABASE, planning.CLEAN, planning.JOIN]
    assert "nothing that reached demo-master-3" in planning.losses(plan, None, 900, NOW)[0]


def test_masters_that_are_silent_are_powered_off_before_another_database_starts():
    found = situation({"demo-master-2": ALONE})
    plan = planning.make(found, None, False, NOW)
    assert plan.fence == {"demo-master-1": "id-demo-master-1", "demo-master-3": "id-demo-master-3"}
    kinds = list(plan.steps())
    assert kinds.index(planning.FENCE) < kinds.index(planning.DATABASE)
    assert any("demo-master-1" in words for words in planning.losses(plan, None, 900, NOW))


def test_the_survivor_that_has_most_goes_on():
    left = {"demo-master-1": ALONE, "demo-master-2": Left("joined", database=True, index=51), "demo-master-3": Left()}
    plan = planning.make(situation(left), None, False, NOW)
    assert plan.base == "demo-master-2"
    assert plan.reset == ("demo-master-1",)


def test_without_any_master_one_is_made_and_given_the_backup():
    found = situation({}, gone=MASTERS)
    assert planning.needs_backup(found, asked=False)
    plan = planning.make(found, RECORD, False, NOW)
    assert (plan.base, plan.fresh, plan.own, plan.backup) == ("demo-master-1", True, False, RECORD.name)
    assert plan.make == tuple(MASTERS)
    assert plan.kubelets == ("demo-worker-1", "demo-worker-2")
    (lost,) = planning.losses(plan, RECORD, None, NOW)
    assert "0:10:00 ago" in lost
    assert "revision 700" in lost


def test_of_nothing_everything_is_made():
    plan = planning.make(Situation(NODES, {}, {}), RECORD, False, NOW)
    assert plan.make == tuple(NAMES)
    assert plan.kubelets == ()
    assert next(iter(plan.steps())) == planning.MAKE


def test_without_data_and_backup_it_says_so():
    with pytest.raises(RestoreError, match="there is no good backup"):
        planning.make(situation({}, gone=MASTERS), None, False, NOW)


def test_silent_servers_of_all_masters_may_hold_the_data():
    with pytest.raises(RestoreError, match="may be on them: demo-master-1, demo-master-2, demo-master-3"):
        planning.make(situation({}), RECORD, False, NOW)


def test_going_back_stops_everybody_first():
    found = situation(dict.fromkeys(MASTERS, WELL))
    plan = planning.make(found, RECORD, True, NOW)
    assert (plan.base, plan.own, plan.fresh, plan.backup) == ("demo-master-1", False, False, RECORD.name)
    assert plan.reset == ("demo-master-2", "demo-master-3")
    kinds = list(plan.steps())
    order = [planning.FETCH, planning.STOP, planning.DATABASE, planning.CLEAN, planning.RESET, planning.RESTART]
    assert kinds == [*order, planning.JOIN]
    (lost,) = planning.losses(plan, RECORD, 900, NOW)
    assert "200 revisions, 700 to 900" in lost
    (lost,) = planning.losses(plan, RECORD, 18_000_000_000_000, NOW)
    assert "revision 700 of before another restore" in lost


def test_workers_whose_kubelets_are_newer_than_the_backup_are_made_anew():
    """As a node is never made older, and a kubelet may not be newer than its API server."""
    seen = {"demo-master-2": "1.37.2", "demo-worker-1": "1.37.2", "demo-worker-2": "1.36.3"}
    found = dataclasses.replace(situation(dict.fromkeys(MASTERS, WELL)), kubelets=seen)
    plan = planning.make(found, RECORD, True, NOW)
    assert plan.newer == {"demo-worker-1": "id-demo-worker-1"}
    assert "demo-worker-1" in plan.kubelets
    assert "make demo-worker-1 anew" in plan.steps()[planning.JOIN]
    assert "the servers demo-worker-1 with what is on their disks" in planning.losses(plan, RECORD, 900, NOW)
    # Of a survivor's own data nothing is older than it was.
    assert not planning.make(
        dataclasses.replace(found, left=situation({MASTERS[0]: ALONE}).left), None, False, NOW
    ).newer


def test_damaged_certificates_cost_nothing():
    broken = Left("joined", database=True, quorum=False, certificates=("ca.key is missing or empty",))
    found = situation({"demo-master-1": WELL, "demo-master-2": broken, "demo-master-3": WELL})
    assert planning.needs_backup(found, asked=False)
    plan = planning.make(found, RECORD, False, NOW)
    assert (plan.base, plan.certificates) == ("", ("demo-master-2",))
    assert list(plan.steps()) == [planning.FETCH, planning.CERTIFICATES, planning.JOIN]
    assert planning.losses(plan, RECORD, 900, NOW) == ["nothing of what is in the cluster"]


def test_a_survivor_with_damaged_certificates_gets_them_before_its_database():
    broken = Left("joined", database=True, index=3, certificates=("etcd/peer.crt is missing",))
    found = situation({"demo-master-1": broken}, gone=MASTERS[1:])
    assert planning.needs_backup(found, asked=False)
    plan = planning.make(found, RECORD, False, NOW)
    assert (plan.own, plan.backup, plan.certificates) == (True, RECORD.name, ("demo-master-1",))
    kinds = list(plan.steps())
    assert kinds.index(planning.CERTIFICATES) < kinds.index(planning.DATABASE)


LEFTS = st.one_of(
    st.none(),
    st.builds(
        Left, st.sampled_from(["none", "partial", "initialised", "joined"]), st.booleans(), st.booleans(),
        st.none() | st.integers(1, 9), st.integers(0, 9), st.sampled_from([(), ("broken",)]),
    ),
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(NAMES), LEFTS), st.sets(st.sampled_from(NAMES)), st.booleans())
def test_never_two_databases(left, gone, asked):
    """Whatever is left: every other master that could hold a database is off or stopped before the new one starts."""
    found = situation({name: one for name, one in left.items() if one is not None}, gone, others={})
    try:
        plan = planning.make(found, RECORD, asked, NOW)
    except RestoreError:
        return
    assert Plan.of(json.loads(json.dumps(dataclasses.asdict(plan)))) == plan
    if not plan.base:
        return
    assert plan.base in found.left or plan.base in plan.make
    assert plan.own != (plan.fresh or asked or not found.left[plan.base].database)
    for name in MASTERS:
        one = found.left.get(name)
        if name == plan.base:
            continue
        if name in found.servers and one is None:
            assert name in plan.fence
        if one is not None and (one.database and one.kubeadm != "none"):
            assert name in plan.reset
        if name not in found.servers:
            assert name in {*plan.make, *plan.gone}
    kinds = list(plan.steps())
    for before, after in itertools.product((planning.FENCE, planning.STOP, planning.FETCH), (planning.DATABASE,)):
        assert before not in kinds or kinds.index(before) < kinds.index(after)


def records(*ages, **more):
    return [backups.record(NOW - age, **more) for age in ages]


def test_the_newest_good_backup_is_chosen():
    bad, good = backups.record(NOW - 1, problem="torn"), backups.record(NOW - 100)
    assert planning.choose([bad, good], None, None) == good
    assert planning.choose([], None, None) is None


def test_one_before_a_moment_is_chosen():
    found = records(100, 200, 300)
    assert planning.choose(found, None, NOW - 150) == found[1]
    with pytest.raises(RestoreError, match="no good backup before it"):
        planning.choose(found, None, NOW - 900)


def test_wrong_wishes_say_what_there_is():
    found = records(100)
    with pytest.raises(RestoreError, match=f"no nonsense; the newest are {found[0].name}"):
        planning.choose(found, "nonsense", None)
    with pytest.raises(RestoreError, match="exclude each other"):
        planning.choose(found, found[0].name, NOW)
    with pytest.raises(RestoreError, match="is not good: torn"):
        planning.choose(records(5, problem="torn"), backups.record(NOW - 5).name, None)


def test_a_moment_is_in_utc():
    assert planning.moment("2026-11-24T13:45") == planning.moment("2026-11-24T14:45+01:00")
    assert planning.moment(None) is None
    with pytest.raises(RestoreError, match="write it like"):
        planning.moment("yesterday")
