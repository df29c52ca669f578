import dataclasses

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from managed_k8s.kube import node_annotations
from managed_k8s.model import cluster as model
from managed_k8s.model.cluster import Facts, Marker
from managed_k8s.model.membership import Fleet, Member
from managed_k8s.model.steps import CREATE, DRAIN, JOIN, LEAVE, REMOVE, UNCORDON, runnable
from managed_k8s.names import GATEWAY, MASTER, WORKER, is_master, parse
from managed_k8s.observe import membership
from managed_k8s.plan import plan, scaling, waiting
from managed_k8s.state.change_requests import ASKED, BEGUN, COMPLETE, LEFT_MAP
from tests.support.clusters import DEMO, FRESH, change, desired, healthy, ids, of_kind
from tests.support.plans import assert_in_order

TURNOVER = (DRAIN, LEAVE, REMOVE, CREATE, UNCORDON)
MEMBERS = tuple(Member(str(n), f"demo-master-{n}") for n in (1, 2, 3))


def with_fleet(observed=None, **changes):
    observed = observed or healthy()
    return change(observed, fleet=dataclasses.replace(observed.fleet, **({"members": MEMBERS} | changes)))


def turnover(observed, want=DEMO):
    return of_kind(plan(want, observed), *TURNOVER)


def condemned(*names, **changes):
    return with_fleet(condemned=dict.fromkeys(names, "an operator asked"), **changes)


def held(observed, step_id):
    (step,) = [step for step in turnover(observed) if step.id == step_id]
    return step.held


def without(observed, *names):
    """The servers of these names are gone."""
    return change(
        observed,
        servers={name: status for name, status in observed.servers.items() if name not in names},
        minions={name: facts for name, facts in observed.minions.items() if name not in names},
        ready={name: ready and name not in names for name, ready in (observed.ready or {}).items()},
        fleet=dataclasses.replace(observed.fleet, lost=frozenset(names)),
    )


def test_a_worker_is_drained_removed_and_made_anew():
    steps = turnover(condemned("demo-worker-1"))
    assert ids(steps) == ["drain:demo-worker-1", "remove:demo-worker-1", "create:demo-worker-1"]
    assert [step.needs for step in steps] == [(), ("drain:demo-worker-1",), ("remove:demo-worker-1",)]
    assert not any(step.held for step in steps)


def test_a_master_leaves_etcd_before_its_server_goes():
    steps = turnover(condemned("demo-master-2"))
    assert ids(steps) == [f"{kind}:demo-master-2" for kind in (DRAIN, LEAVE, REMOVE, CREATE)]
    assert ids(runnable(steps)) == ["drain:demo-master-2"]


def test_from_three_masters_to_one_they_go_one_after_another():
    want = desired(masters=1)
    observed = with_fleet(condemned=dict.fromkeys(["demo-master-2", "demo-master-3"], LEFT_MAP))
    steps = turnover(observed, want)
    assert ids(steps) == [f"{kind}:demo-master-{n}" for n in (2, 3) for kind in (DRAIN, LEAVE, REMOVE)]
    assert ids(runnable(steps)) == ["drain:demo-master-2"]
    assert steps[3].needs == ("remove:demo-master-2",)


def test_the_second_master_is_replaced_once_the_first_is_back():
    observed = without(condemned("demo-master-2"), "demo-master-1")
    observed = with_fleet(observed, members=MEMBERS[1:], asked=frozenset(["demo-master-1"]), lost=frozenset())
    ready = {name: ready for name, ready in (observed.ready or {}).items() if name != "demo-master-1"}
    assert "first demo-master-1 must be Ready" in held(change(observed, ready=ready), "drain:demo-master-2")


def test_the_last_gateway_stays():
    want = desired(gateways=1)
    observed = change(healthy(want), fleet=Fleet(condemned={"demo-gateway-1": "x"}))
    (remove,) = of_kind(plan(want, observed), REMOVE)
    assert "last gateway" in remove.held
    assert "add another one to cluster.map" in remove.held
    dead = change(observed, minions={name: f for name, f in observed.minions.items() if name != "demo-gateway-1"})
    assert not of_kind(plan(want, dead), REMOVE)[0].held


def test_the_only_master_stays():
    want = desired(masters=1)
    observed = change(healthy(want), fleet=Fleet(condemned={"demo-master-1": "x"}, members=MEMBERS[:1]))
    assert "only member" in scaling.refusal(want, observed, "demo-master-1")
    assert not runnable(of_kind(plan(want, observed), DRAIN, LEAVE, REMOVE))


@pytest.mark.parametrize(
    ("ill", "name", "words"),
    [
        (["demo-master-3"], "demo-master-2", "without demo-master-2 1 of 2 members are healthy"),
        (["demo-master-2", "demo-master-3"], "demo-master-1", "lost its quorum (1 of 3"),
        (["demo-master-2", "demo-master-3"], "demo-master-2", "lost its quorum"),
        (["demo-master-2"], "demo-master-2", ""),
    ],
)
def test_etcd_keeps_its_quorum(ill, name, words):
    members = tuple(dataclasses.replace(member, healthy=member.node not in ill) for member in MEMBERS)
    observed = condemned(name, members=members)
    refused = scaling.refusal(DEMO, observed, name)
    assert words in refused
    assert bool(refused) == bool(words)


def test_without_an_answer_of_etcd_no_master_goes():
    assert "etcd's members" in held(condemned("demo-master-2", members=None), "drain:demo-master-2")


def test_nothing_is_drained_while_the_api_is_silent():
    observed = change(condemned("demo-worker-1"), ready=None)
    assert "cannot be asked" in held(observed, "remove:demo-worker-1")


def test_workers_are_replaced_one_at_a_time():
    observed = condemned("demo-worker-1", "demo-worker-2")
    assert not held(observed, "drain:demo-worker-1")
    assert "first demo-worker-1 must be Ready" in held(observed, "drain:demo-worker-2")


def test_workers_that_left_the_map_go_all_at_once():
    want = desired(workers=0)
    observed = with_fleet(condemned=dict.fromkeys(["demo-worker-1", "demo-worker-2"], LEFT_MAP))
    steps = turnover(observed, want)
    assert ids(runnable(steps)) == ["drain:demo-worker-1", "drain:demo-worker-2"]


def test_a_lost_worker_is_cleared_away_and_made_anew():
    observed = without(healthy(), "demo-worker-1")
    observed = with_fleet(observed, remains=frozenset(["demo-worker-1"]))
    assert ids(turnover(observed)) == ["drain:demo-worker-1", "remove:demo-worker-1", "create:demo-worker-1"]


def test_a_lost_master_leaves_etcd_before_another_joins():
    observed = without(healthy(), "demo-master-2")
    lost = dataclasses.replace(MEMBERS[1], healthy=False, lost=True)
    observed = with_fleet(observed, members=(MEMBERS[0], lost, MEMBERS[2]), remains=frozenset(["demo-master-2"]))
    assert ids(turnover(observed)) == [f"{kind}:demo-master-2" for kind in (DRAIN, LEAVE, REMOVE, CREATE)]
    back = change(
        observed,
        servers=healthy().servers,
        minions={**observed.minions, "demo-master-2": FRESH},
        fleet=dataclasses.replace(observed.fleet, lost=frozenset()),
    )
    (join,) = of_kind(plan(DEMO, back), JOIN)
    assert {"leave:demo-master-2", "remove:demo-master-2"} <= set(join.needs)


def test_a_member_that_never_started_is_removed():
    stray = Member("abc", "", healthy=False, lost=True)
    steps = turnover(with_fleet(members=(*MEMBERS, stray)))
    assert ids(steps) == ["leave:abc"]
    assert not steps[0].held


def test_a_server_that_answers_is_not_made_a_second_time():
    observed = without(healthy(), "demo-worker-1")
    assert not held(observed, "create:demo-worker-1")
    assert "is the cloud's list complete" in held(
        with_fleet(observed, contradicted=frozenset(["demo-worker-1"])), "create:demo-worker-1"
    )
    still = change(observed, ready=healthy().ready)
    assert "is the cloud's list complete" in held(still, "create:demo-worker-1")


def test_many_losses_at_once_are_left_to_an_operator():
    names = ["demo-worker-1", "demo-worker-2", "demo-gateway-1"]
    observed = without(healthy(), *names)
    creations = of_kind(plan(DEMO, observed), CREATE)
    assert len(creations) == 3
    assert all("3 of 7 servers are gone at once" in step.held for step in creations)
    asked = with_fleet(observed, lost=frozenset(), asked=frozenset(names))
    assert len(runnable(of_kind(plan(DEMO, asked), CREATE))) == 3


def test_salt_cloud_and_the_reconciler_are_not_in_each_others_way():
    absent = change(without(healthy(), "demo-worker-2"), fleet=Fleet())
    assert not turnover(absent), "never complete, and nobody asked: salt-cloud makes it"
    assert "demo-worker-2: has no server; run: salt-cloud -m cluster.map" in waiting(DEMO, absent)
    asked = with_fleet(absent, asked=frozenset(["demo-worker-2"]))
    assert ids(turnover(asked)) == ["create:demo-worker-2"]
    assert not turnover(with_fleet(asked, busy=frozenset(["demo-worker-2"]))), "somebody is at it"


def test_an_interrupted_making_goes_on():
    name = "demo-worker-2"
    observed = with_fleet(healthy(), asked=frozenset([name]), unfinished=frozenset([name]))
    assert ids(turnover(observed)) == ["create:demo-worker-2"]


def test_what_left_the_map_stays_until_an_operator_says_so():
    want = desired(workers=1)
    observed = with_fleet(unwanted=frozenset(["demo-worker-2"]))
    assert not turnover(observed, want)
    assert any("demo-worker-2: is not in cluster.map; to remove it" in line for line in waiting(want, observed))


def test_a_removal_that_was_called_off_leaves_no_cordon():
    observed = with_fleet(cordoned=frozenset(["demo-worker-1"]), drained=frozenset(["demo-worker-1"]))
    assert ids(turnover(observed)) == ["uncordon:demo-worker-1"]


def test_a_pause_is_said():
    observed = with_fleet(paused="paused 2026-11-24: network work")
    assert any("network work" in line and "managed_k8s.resume" in line for line in waiting(DEMO, observed))


# From answers to a fleet


class Intent:
    """What was said, in memory."""

    def __init__(self):
        self.states, self.doomed, self.pause = {}, {}, ""

    def servers(self):
        return dict(self.states)

    def condemned(self):
        return dict(self.doomed)

    def paused(self):
        return self.pause

    def removed(self, name, again):
        self.doomed.pop(name, None)
        self.states.pop(name, None)
        if again:
            self.states[name] = ASKED


def server(identity, address, **more):
    return {"id": identity, "address": address, "status": "ACTIVE", "pending": False, **more}


def node(ready=True, provider_id=None, cordoned_by=None, drained=False):
    return {"ready": ready, "provider_id": provider_id, "cordoned_by": cordoned_by, "drained": drained}


def compose(wanted=(), servers=None, nodes=None, members=None, answering=(), busy=(), intent=None) -> Fleet:
    said = intent or Intent()
    return membership.compose(wanted, servers or {}, answering, busy, nodes or {}, members, said)  # type: ignore[arg-type]


def test_a_condemned_servers_successor_stays():
    said = Intent()
    said.doomed = {"demo-worker-1": {"id": "old", "why": "ill"}}
    assert compose(servers={"demo-worker-1": server("old", "10.0.0.1")}, intent=said).condemned
    assert not compose(servers={"demo-worker-1": server("new", "10.0.0.1")}, intent=said).condemned
    # Its key and its Node may still be there.
    assert compose(intent=said).condemned


def test_what_is_back_in_the_map_stays():
    said = Intent()
    said.doomed = {"demo-worker-1": {"id": "1", "why": LEFT_MAP}}
    servers = {"demo-worker-1": server("1", "10.0.0.1")}
    assert compose(servers=servers, intent=said).condemned
    assert not compose(["demo-worker-1"], servers=servers, intent=said).condemned


def test_a_node_is_a_remain_when_its_server_is_gone_and_it_is_silent():
    servers = {"demo-worker-1": server("new", "10.0.0.1")}
    nodes = {
        "demo-worker-1": node(ready=False, provider_id="openstack:///old"),
        "demo-worker-2": node(ready=False, provider_id="openstack://region/2"),
        "demo-worker-3": node(ready=True),
        "metal-1": node(ready=False),
    }
    assert compose(servers=servers, nodes=nodes).remains == {"demo-worker-1", "demo-worker-2"}
    nodes["demo-worker-1"] = node(ready=False, provider_id="openstack:///new")
    assert compose(servers=servers, nodes=nodes).remains == {"demo-worker-2"}


def test_members_are_told_apart_by_their_addresses():
    servers = {"demo-master-1": server("1", "10.0.0.1"), "demo-master-2": server("2", "10.0.0.9")}
    members = [
        {"id": "a", "name": "demo-master-1", "addresses": ["10.0.0.1"], "healthy": True, "voter": True},
        {"id": "b", "name": "demo-master-2", "addresses": ["10.0.0.2"], "healthy": False, "voter": True},
        {"id": "c", "name": "", "addresses": ["10.0.0.9"], "healthy": False, "voter": False},
    ]
    found = compose(servers=servers, members=members).members
    assert found == (
        Member("a", "demo-master-1"),
        Member("b", "demo-master-2", healthy=False, lost=True),
        Member("c", "demo-master-2", healthy=False, voter=False),
    )


def test_who_is_lost_and_who_is_asked_for():
    said = Intent()
    said.states = {"demo-worker-1": COMPLETE, "demo-worker-2": ASKED, "demo-worker-3": COMPLETE, "demo-worker-9": ASKED}
    servers = {"demo-worker-3": server("3", "10.0.0.3"), "demo-worker-4": server("4", "10.0.0.4", pending=True)}
    found = compose(["demo-worker-1", "demo-worker-2", "demo-worker-3"], servers=servers, intent=said)
    assert (found.lost, found.asked) == ({"demo-worker-1"}, {"demo-worker-2"})
    assert (found.unfinished, found.unwanted) == ({"demo-worker-4"}, frozenset())


# Random worlds

NAMES = [f"demo-{role}-{n}" for role in (GATEWAY, MASTER, WORKER) for n in (1, 2, 3)]
SOME = st.frozensets(st.sampled_from(NAMES), max_size=4)


@st.composite
def worlds(draw):
    names = st.sampled_from(NAMES)
    member = st.builds(
        Member, st.uuids().map(str), st.sampled_from(["", *NAMES[3:6]]), st.booleans(), st.booleans(), st.booleans()
    )
    found = Fleet(
        *(draw(SOME) for _ in range(5)),
        condemned=draw(st.dictionaries(names, st.just("why"), max_size=4)),
        unwanted=draw(SOME),
        remains=draw(SOME),
        drained=draw(SOME),
        cordoned=draw(SOME),
        members=draw(st.none() | st.lists(member, max_size=5).map(tuple)),
    )
    observed = change(
        healthy(),
        servers=draw(st.dictionaries(names, st.sampled_from(["ACTIVE", "SHUTOFF"]))),
        ready=draw(st.none() | st.dictionaries(names, st.booleans())),
        etcd=draw(st.booleans()),
        fleet=found,
    )
    facts = {name: facts for name, facts in observed.minions.items() if draw(st.booleans())}
    return change(observed, minions=facts)


@settings(max_examples=300)
@given(worlds())
def test_in_no_world_a_step_costs_the_quorum(observed):
    steps = plan(DEMO, observed)
    assert_in_order(steps)
    now = runnable(steps)
    leaves = of_kind(now, LEAVE)
    changes = {step.node for step in [*leaves, *of_kind(now, JOIN, DRAIN, REMOVE)] if is_master(step.node)}
    event(f"masters changed at once: {len(changes)}")
    assert len(changes) <= 1, "never two masters at once"
    for step in leaves:
        members = observed.fleet.members or ()
        going = [m for m in members if step.node in (m.node, m.id) and _goes(m, step.node, observed)]
        rest = [m for m in members if m.voter and m not in going]
        assert sum(m.healthy for m in rest) > len(rest) // 2 or not any(m.voter for m in going)
    for step in of_kind(now, REMOVE):
        if is_master(step.node):
            assert not any(m.node == step.node and _goes(m, step.node, observed) for m in observed.fleet.members or ())


def _goes(member, name, observed):
    return member.lost or name in observed.fleet.condemned


class World:
    """Servers, nodes and etcd that do what steps say, and break."""

    def __init__(self, want):
        self.want, self.count = want, 0
        self.servers, self.minions, self.nodes, self.members = {}, {}, {}, []
        self.intent, self.smoke = Intent(), "smoke"
        for each in want.nodes:
            self.boot(each.id)
            self.minions[each.id] = Facts(want.revisions[each.id], model.NONE, False)
            if each.role != GATEWAY:
                self.enter(each.id)

    def boot(self, name):
        self.count += 1
        self.servers[name] = server(str(self.count), f"10.0.0.{self.count}")
        self.minions[name], self.intent.states[name] = FRESH, COMPLETE

    def enter(self, name):
        master = is_master(name)
        self.minions[name] = dataclasses.replace(self.minions[name], kubeadm=model.JOINED, etcd_data=master)
        assert name not in self.nodes, "a Node of an earlier server is gone before"
        self.nodes[name] = node(provider_id=f"openstack:///{self.servers[name]['id']}")
        if master:
            assert all(member["healthy"] for member in self.members), "nobody joins beside an ill member"
            address = self.servers[name]["address"]
            self.members.append(
                {"id": f"m{address}", "name": name, "addresses": [address], "healthy": True, "voter": True}
            )

    def lose(self, name):
        """The server is deleted behind our back."""
        gone = self.servers.pop(name)
        self.minions.pop(name, None)
        if name in self.nodes:
            self.nodes[name]["ready"] = False
        for member in self.members:
            member["healthy"] = member["healthy"] and gone["address"] not in member["addresses"]
        self.smoke = None

    def may_lose(self, name):
        role = parse(name).role
        if role == MASTER:
            left = sum(m["healthy"] and m["name"] != name for m in self.members)
            return left > len(self.members) // 2
        same = [other for other in self.servers if parse(other).role == role]
        return role == WORKER or len(same) > 1

    def look(self):
        wanted = [each.id for each in self.want.nodes]
        found = compose(wanted, self.servers, self.nodes, self.members, intent=self.intent)
        return model.Observed(
            servers={name: each["status"] for name, each in self.servers.items()},
            minions=dict(self.minions),
            known=frozenset(self.minions),
            marker=Marker("demo-master-1", finished=True),
            api=True,
            access=True,
            ready={name: each["ready"] for name, each in self.nodes.items()},
            etcd=all(m["healthy"] for m in self.members),
            addons=True,
            resources="resources",
            smoke=self.smoke,
            infrastructure="infrastructure",
            fleet=found,
        )

    def run(self, step):
        getattr(self, f"_{step.kind}")(step.node)

    def _converge(self, name):
        self.minions[name] = dataclasses.replace(self.minions[name], revision=self.want.revisions[name])

    def _join(self, name):
        self.enter(name)

    def _smoke(self, name):
        self.smoke = "smoke"

    def _create(self, name):
        assert name not in self.servers
        self.boot(name)
        self.smoke = None

    def _drain(self, name):
        each = self.nodes[name]
        if each["ready"]:
            each["cordoned_by"] = each["cordoned_by"] or node_annotations.REMOVAL
        elif name in self.intent.doomed and name in self.servers:
            self.servers[name]["status"] = "SHUTOFF"
            self.minions.pop(name, None)
        each["drained"] = True

    def _uncordon(self, name):
        self.nodes[name].update(drained=False, cordoned_by=None)

    def _leave(self, name):
        found = self.look().fleet
        own = {m.id for m in found.members or () if m.node == name and (m.lost or name in found.condemned)}
        rest = [member for member in self.members if member["id"] not in own]
        assert sum(member["healthy"] for member in rest) > len(rest) // 2, "etcd keeps its quorum"
        self.members = rest
        if name in self.intent.doomed:
            self.intent.doomed[name]["why"] = BEGUN

    def _remove(self, name):
        wanted = name in {each.id for each in self.want.nodes}
        assert name not in self.nodes or self.nodes[name]["drained"], "drained before"
        self.nodes.pop(name, None)
        doomed = name in self.look().fleet.condemned
        if doomed:
            address = self.servers.pop(name, {}).get("address")
            self.minions.pop(name, None)
            assert not any(address in member["addresses"] for member in self.members), "out of etcd before"
        if doomed or not wanted:
            self.intent.removed(name, again=wanted)


SIZES = st.tuples(st.integers(1, 3), st.sampled_from([1, 3, 5]), st.integers(0, 3))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_the_map_becomes_and_whatever_breaks_it_ends_as_it_should_be(data):
    world = World(desired(*data.draw(SIZES)))
    mischief = data.draw(st.integers(0, 6))
    for _ in range(400):
        steps = runnable(plan(world.want, world.look()))
        if mischief and (not steps or data.draw(st.integers(0, 4)) == 0):
            mischief -= 1
            _disturb(world, data)
            continue
        if not steps:
            if not _say_so(world):
                break
            continue
        world.run(data.draw(st.sampled_from(steps)))
    assert plan(world.want, world.look()) == []
    assert waiting(world.want, world.look()) == []
    assert set(world.servers) == {each.id for each in world.want.nodes}
    assert {m["name"] for m in world.members} == {each.id for each in world.want.nodes if each.role == MASTER}
    assert all(not each["cordoned_by"] and not each["drained"] for each in world.nodes.values())


def _disturb(world, data):
    kind = data.draw(st.sampled_from(["map", "replace", "lose"]))
    event(kind)
    if kind == "map":
        world.want, world.smoke = desired(*data.draw(SIZES)), None
        _say_so(world)
        return
    name = data.draw(st.sampled_from(sorted(world.servers) or ["none"]))
    if kind == "lose" and name in world.servers and world.may_lose(name):
        world.lose(name)
    elif kind == "replace" and not scaling.refusal(world.want, world.look(), name):
        world.intent.doomed[name] = {"id": world.servers[name]["id"], "why": "an operator asked"}


def _say_so(world):
    """An operator types `managed_k8s.reconcile`; return whether that changed anything."""
    before = (dict(world.intent.states), dict(world.intent.doomed))
    wanted = {each.id for each in world.want.nodes}
    for name in wanted - set(world.servers):
        world.intent.states[name] = ASKED
    for name in {*world.servers, *world.intent.states} - wanted - set(world.intent.doomed):
        world.intent.doomed[name] = {"id": world.servers.get(name, {}).get("id"), "why": LEFT_MAP}
    for name in wanted & set(world.intent.doomed):
        if world.intent.doomed[name]["why"] == LEFT_MAP or scaling.refusal(world.want, world.look(), name):
            world.intent.doomed.pop(name)
    return before != (world.intent.states, world.intent.doomed)
