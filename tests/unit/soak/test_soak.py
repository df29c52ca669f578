"""Which faults a soak draws, and what it says of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_k8s import names
from managed_k8s.names import GATEWAY, MASTER, ROLES, WORKER
from tests.soak import run
from tests.soak.draw import KINDS, Fault, draw
from tests.soak.report import Outcome, lines, passed
from tests.support.faults import STRIKES
from tests.support.probes import Summary


def servers(gateways=2, masters=3, workers=2):
    counts = {GATEWAY: gateways, MASTER: masters, WORKER: workers}
    return {role: [f"demo-{role}-{n + 1}" for n in range(count)] for role, count in counts.items()}


DEMO = servers()
SEEDS = st.integers(0, 10**6)


@given(SEEDS, st.integers(1, 60))
def test_a_seed_always_draws_the_same(seed, count):
    found = draw(seed, count, DEMO)
    assert len(found) == count
    assert found == draw(seed, count, {role: names[::-1] for role, names in DEMO.items()})
    assert found == draw(seed, count + 7, DEMO)[:count]


def test_other_seeds_draw_others():
    assert len({tuple(draw(seed, 20, DEMO)) for seed in range(20)}) == 20


@given(SEEDS)
def test_every_kind_comes_before_one_comes_again(seed):
    assert {fault.kind for fault in draw(seed, len(KINDS), DEMO)} == set(KINDS)


@given(SEEDS)
def test_every_server_is_hit_in_the_end(seed):
    hit = {name for fault in draw(seed, 300, DEMO) for name in fault.victims}
    assert hit == {name for names in DEMO.values() for name in names}


@given(SEEDS, st.integers(1, 3), st.sampled_from([1, 3, 5]), st.integers(1, 5))
def test_no_fault_takes_quorum_or_the_last_gateway_by_itself(seed, gateways, masters, workers):
    there = servers(gateways, masters, workers)
    for fault in draw(seed, 40, there):
        victims = [node for name in fault.victims if (node := names.parse(name))]
        assert len(set(fault.victims)) == len(victims) == fault.kind.victims
        assert {node.role for node in victims} <= set(fault.kind.roles)
        lost = {role: sum(node.role == role for node in victims) for role in ROLES}
        assert lost[MASTER] == 0 or masters - lost[MASTER] > masters // 2
        assert lost[GATEWAY] < gateways


def test_a_cluster_that_survives_nothing_is_refused():
    with pytest.raises(ValueError, match="survives no fault"):
        draw(1, 1, servers(1, 1, 0))


def test_what_is_drawn_can_be_made():
    assert {kind.strike for kind in KINDS} <= STRIKES.keys()
    assert {kind.meanwhile for kind in KINDS} - {""} == run.MEANWHILE.keys()


FAULT = Fault(KINDS[0], ("demo-worker-1",))
PROBES = Summary(probes=400, failed=1, gap=1.25, slowest=0.5, late=0.01)


def outcomes(*seconds):
    return [Outcome(FAULT, one, "rebooted 70 s, healed 95 s") for one in seconds]


def test_what_is_said_at_the_end():
    assert lines(outcomes(100, 90, 300), 3, PROBES, 500, 0) == [
        "faults survived   3 of 3, 3 were asked for",
        "time to heal      median 100 s, worst 300 s",
        "API               99.75 % of 400 probes answered, longest gap 1.2 s",
        "writes lost       0 of 500 that were acknowledged",
    ]
    assert lines([], 3, None, 0, None) == [
        "faults survived   0 of 0, 3 were asked for",
        "writes lost       not known of 0 that were acknowledged",
    ]
    assert str(outcomes(95)[0]) == "demo-worker-1: power loss: healed in 95 s: rebooted 70 s, healed 95 s"
    assert "NOT HEALED (why): nothing was done" in str(Outcome(FAULT, None, "", "why"))


@pytest.mark.parametrize(
    ("seconds", "lost", "well"),
    [((1, 2), 0, True), ((1, None), 0, False), ((1,), 0, False), ((1, 2), 1, False), ((1, 2), None, False)],
)
def test_all_faults_are_to_be_survived_and_no_write_lost(seconds, lost, well):
    assert passed(outcomes(*seconds), 2, lost) is well


# Running it, on a cluster of this file's own


class Still:
    """Whatever runs beside the faults."""

    written = ("a",)
    lost: frozenset[str] = frozenset()
    summary = PROBES

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class StillCluster:
    api = public_address = None

    def __init__(self):
        self.forgotten = []
        self.store = self

    def remove(self, name):
        self.forgotten.append(name)

    def verb(self, name, **_):
        return {"steps": [], "ok": True}


@pytest.fixture
def soak(monkeypatch):
    told = []
    for name in ("Writer", "Probing"):
        monkeypatch.setattr(run, name, Still)
    monkeypatch.setattr(run, "context", lambda api: None)
    monkeypatch.setattr(run, "lab", lambda *words, **_: told.append(words))
    monkeypatch.setattr(run, "settled", lambda *_: True)
    monkeypatch.setattr(run, "is_healed", lambda *_: True)
    monkeypatch.setattr(run, "happened", lambda *_: [("demo-worker-1", "rebooted", 70)])
    monkeypatch.setattr(run, "STRIKES", {FAULT.kind.strike: lambda cluster, name: told.append((name,))})
    made = run.Soak(StillCluster())
    made.told = told
    return made


def test_faults_come_one_after_another_and_are_forgotten_in_between(soak, capsys):
    assert soak.run([FAULT, FAULT]) == 0
    assert soak.told.count(("demo-worker-1",)) == 2
    assert soak.told[-1] == ("fault", "clear")
    assert soak.cluster.forgotten == ["healing.json"] * 2
    assert "faults survived   2 of 2" in capsys.readouterr().out


def test_it_ends_with_the_first_that_is_not_healed(soak, monkeypatch, capsys):
    def never(check, limit, **_):
        assert limit != pytest.approx(FAULT.kind.limit, abs=5), "not within the limit"

    monkeypatch.setattr(run, "eventually", never)
    assert soak.run([FAULT, FAULT]) == 1
    said = capsys.readouterr().out
    assert "NOT HEALED (not within the limit" in said
    assert "faults survived   0 of 1, 2 were asked for" in said
    assert soak.told[-1] == ("fault", "clear")


def test_an_interruption_undoes_what_was_made_and_says_what_there_is(soak, monkeypatch, capsys):
    def interrupt(cluster, name):
        if soak.outcomes:
            raise KeyboardInterrupt

    monkeypatch.setitem(run.STRIKES, FAULT.kind.strike, interrupt)
    assert soak.run([FAULT, FAULT]) == run.INTERRUPTED
    assert soak.told[-1] == ("fault", "clear")
    assert "faults survived   1 of 1, 2 were asked for" in capsys.readouterr().out
