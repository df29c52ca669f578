"""What the bench computes from what it measures."""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
import requests
import trustme
import urllib3
from hypothesis import given
from hypothesis import strategies as st

from bench import (
    all_gone,
    backing_up,
    big_etcd,
    by_hand,
    calls,
    creation,
    disasters,
    failover,
    healing,
    ours,
    page,
    planning,
    quorum_lost,
    report,
    second_apply,
    upgrading,
)
from bench.http_counter import Counter, Traffic, place
from bench.setting import BenchError, Setting
from managed_k8s import names
from managed_k8s.artifacts import mirror
from managed_k8s.plan import plan, waiting
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from tests.support.probes import INTERVAL, Probe, Probing, ask, longest_gap, summary
from tests.support.settings import settings

MOMENTS = st.lists(st.floats(0, 100), max_size=50)


# Gaps


def test_a_gap_is_from_one_answer_to_the_next() -> None:
    assert longest_gap([1.0, 1.1, 1.6, 1.7], 0.9, 1.8) == pytest.approx(0.5)


def test_no_answer_at_the_beginning_or_the_end_is_a_gap_too() -> None:
    assert longest_gap([3.0], 0.0, 4.0) == 3.0
    assert longest_gap([1.0], 0.0, 4.0) == 3.0
    assert longest_gap([], 0.0, 4.0) == 4.0


@given(MOMENTS, st.randoms())
def test_a_gap_does_not_depend_on_the_order_of_answers(moments: list[float], random: Any) -> None:
    shuffled = list(moments)
    random.shuffle(shuffled)
    assert longest_gap(moments, 0, 100) == longest_gap(shuffled, 0, 100)


@given(MOMENTS, st.floats(0, 100))
def test_more_answers_make_no_gap_longer(moments: list[float], another: float) -> None:
    assert longest_gap([*moments, another], 0, 100) <= longest_gap(moments, 0, 100)


def probes(*outcomes: float | None, begun: float = 10.0) -> list[Probe]:
    """Return a probe every 50 ms; outcomes: seconds until its answer, None for none."""
    starts = [begun + number * INTERVAL for number in range(len(outcomes))]
    return [
        Probe(start, start + (2.0 if took is None else took), took is not None)
        for start, took in zip(starts, outcomes, strict=True)
    ]


def test_a_probe_that_tcp_repeats_does_not_shorten_the_gap_it_fell_into() -> None:
    found = summary(probes(*[0.01] * 20, 1.03, 1.03, 1.03, None, *[0.01] * 40))
    assert found.gap == pytest.approx(5 * INTERVAL)
    assert found.slowest == pytest.approx(1.03)
    assert (found.probes, found.failed) == (64, 1)
    assert found.late == pytest.approx(0)


def test_an_api_that_does_not_come_back_has_the_whole_rest_as_gap() -> None:
    assert summary(probes(*[0.01] * 21, *[None] * 40)).gap == pytest.approx(40 * INTERVAL - 0.01)


# Probing, against a server of our own


class Ready(BaseHTTPRequestHandler):
    """Answers /readyz; `server.status` is what with."""

    def do_GET(self) -> None:
        self.send_response(self.server.status if self.path == "/readyz" else 404)  # type: ignore[attr-defined]
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def api():
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server: Any = HTTPServer(("127.0.0.1", 0), Ready)
    server.status = 200
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.trust = ssl.create_default_context()
    authority.configure_trust(server.trust)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def probing(server: Any, seconds: float = 0.4) -> Any:
    with Probing("127.0.0.1", server.server_address[1], server.trust) as found:
        threading.Event().wait(seconds)
    return found.summary


def test_probes_go_to_a_ready_api_and_are_answered(api) -> None:
    found = probing(api)
    assert found.probes >= 4
    assert found.failed == 0


def test_an_api_that_is_not_ready_is_no_answer(api) -> None:
    api.status = 500
    found = probing(api)
    assert found.failed == found.probes >= 4


def test_nobody_who_listens_is_no_answer(api) -> None:
    with Probing("127.0.0.1", 1, api.trust) as found:
        threading.Event().wait(0.2)
    assert found.summary.failed == found.summary.probes > 0


# Counting


@pytest.fixture
def service():
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = b"x" * 5000
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "get",
    [
        pytest.param(lambda url: requests.get(url, timeout=5).content, id="requests, as openstacksdk"),
        pytest.param(
            lambda url: urllib3.PoolManager().request("GET", url).data, id="urllib3, as the Kubernetes client"
        ),
        pytest.param(lambda url: urllib.request.urlopen(url, timeout=5).read(), id="urllib"),  # noqa: S310
    ],
)
def test_every_client_is_counted_and_reads_what_was_sent(service, get) -> None:
    counter = Counter({place(service): "compute"})
    with counter.counting():
        assert get(f"{service}/a") == b"x" * 5000
        assert get(f"{service}/b") == b"x" * 5000
    found = counter.traffic["compute"]
    assert found.requests == 2
    assert 10_000 < found.received < 11_000
    assert 50 < found.sent < 1_000
    get(service)
    assert found.requests == 2, "counted after the end"


def test_who_is_no_known_service_counts_under_its_address(service) -> None:
    counter = Counter({})
    with counter.counting():
        requests.get(service, timeout=5)
    assert list(counter.traffic) == [place(service)]


def test_a_place_has_its_schemes_port() -> None:
    assert place("https://cloud:8774/v2.1") == "cloud:8774"
    assert place("http://10.77.0.10") == "10.77.0.10:80"


def test_a_look_asks_no_more_about_a_thousand_nodes_than_about_ten() -> None:
    few, many = calls.of_stand_in(10), calls.of_stand_in(1000)
    assert set(few) == {"identity", "compute", "network", "kubernetes"}
    assert {name: traffic["requests"] for name, traffic in few.items()} == {
        name: traffic["requests"] for name, traffic in many.items()
    }
    assert many["compute"]["received"] > 50 * few["compute"]["received"] / 10, "the lists do grow"


# Planning


@pytest.mark.parametrize("count", [10, 100])
def test_the_world_to_be_planned_is_a_whole_cluster_with_nothing_in_its_way(count: int) -> None:
    desired, observed = planning.world(count)
    assert len(desired.nodes) == count
    # All converge; init and access are one node's, all other masters and workers join.
    assert len(plan(desired, observed)) == count + 2 + (count - 3) + 3
    assert waiting(desired, observed) == []


# Creation


def test_what_the_script_by_hand_prints() -> None:
    lines = [
        "   8.1 s     8.1 s  seven servers ACTIVE",
        "warning: something",
        "  30.0 s    38.1 s  smoke-tested",
    ]
    assert by_hand.parse(lines) == [
        {"step": "seven servers ACTIVE", "seconds": 8.1, "until": 8.1},
        {"step": "smoke-tested", "seconds": 30.0, "until": 38.1},
    ]


HISTORY = [
    {"time": 50.0, "subject": "cluster", "what": "smoke_passed", "step": "smoke", "seconds": 9.0},
    {"time": 110.0, "subject": "demo-master-1", "what": "begun", "step": "converge:demo-master-1"},
    {"time": 130.0, "subject": "demo-master-1", "what": "converged", "step": "converge:demo-master-1", "seconds": 20.0},
    {"time": 140.0, "subject": "cluster", "what": "failed", "step": "addons", "seconds": 35.0},
    {"time": 170.0, "subject": "cluster", "what": "smoke_passed", "step": "smoke", "seconds": 30.0},
    {"time": 190.0, "subject": "cluster", "what": "smoke_passed", "step": "smoke", "seconds": 10.0},
]


def test_only_what_happened_since_counts() -> None:
    assert ours.smoke_tested(HISTORY, 100.0) == 170.0
    with pytest.raises(BenchError, match="smoke test"):
        ours.smoke_tested(HISTORY, 200.0)


def test_steps_come_in_the_order_of_their_beginning() -> None:
    assert [(step["step"], step["until"], step.get("failed")) for step in ours.steps(HISTORY, 100.0)] == [
        ("addons", 40.0, True),
        ("converge:demo-master-1", 30.0, None),
        ("smoke", 70.0, None),
        ("smoke", 90.0, None),
    ]


def creations(hand: float, mine: float) -> dict[str, Any]:
    return {
        "by_hand": {"seconds": hand, "steps": []},
        "ours": {"seconds": mine, "salt_cloud": 20.0, "waited": mine + 2, "steps": []},
    }


@pytest.mark.parametrize(("mine", "held"), [(150.0, True), (151.0, False)])
def test_we_may_take_half_as_long_again_as_by_hand(mine: float, held: bool) -> None:
    assert creation.rows(creations(100.0, mine))[-1].held is held


class Asked:
    """A setting in which things are there."""

    def __init__(self, replace: bool) -> None:
        self.replace = replace


@pytest.fixture
def removed(monkeypatch):
    done: list[str] = []
    monkeypatch.setattr(by_hand, "there", lambda setting: ["bh-master-1"])
    monkeypatch.setattr(ours, "there", lambda setting: ["network demo"])
    monkeypatch.setattr(by_hand, "remove", lambda setting: done.append("by hand"))
    monkeypatch.setattr(ours, "remove", lambda setting: done.append("ours"))
    monkeypatch.setattr(by_hand, "make_and_remove", lambda setting: {})
    monkeypatch.setattr(ours, "make", lambda setting: {})
    return done


def test_no_cluster_is_removed_unasked(removed) -> None:
    with pytest.raises(BenchError) as caught:
        creation.measure(Asked(replace=False))  # type: ignore[arg-type]
    assert removed == []
    assert all(words in str(caught.value) for words in ("server bh-master-1", "network demo", "--yes"))


def test_when_told_both_are_removed_before_anything_is_made(removed) -> None:
    creation.measure(Asked(replace=True))  # type: ignore[arg-type]
    assert removed == ["by hand", "ours"]


# Commands


def test_what_a_command_prints_is_returned_and_its_failure_told() -> None:
    setting = Setting()
    assert setting.run("python", "-c", "print('hello')").strip() == "hello"
    with pytest.raises(BenchError, match="exit code 2"):
        setting.run("bench/by_hand.sh", "sideways")


# State runs


def test_states_that_change_something_are_counted() -> None:
    answers = {"a": {"x": {"changes": {}}, "y": {"changes": {"new": 1}}}, "b": {"x": {"changes": {}}}}
    assert second_apply.count(answers) == {"states": 3, "changed": 1}


def test_a_state_run_that_did_not_happen_is_no_fast_one() -> None:
    with pytest.raises(BenchError, match="The function"):
        second_apply.count({"a": {}, "b": ["The function state.apply is running"]})


@pytest.mark.parametrize(("seconds", "changed", "held"), [(15.0, 0, True), (15.1, 0, False), (3.0, 1, False)])
def test_a_second_run_has_to_be_fast_and_change_nothing(seconds: float, changed: int, held: bool) -> None:
    figures = {"servers": 7, "states": 400, "seconds": seconds, "changed": changed}
    assert second_apply.rows(figures)[0].held is held


# Promises and the page


def cut(gap: float) -> dict[str, Any]:
    found = {"probes": 200, "failed": 3, "gap": gap, "slowest": 1.02, "late": 0.004}
    return {"gateway": "demo-gateway-1", "cut": found, "return": {**found, "gap": 3.0}}


def test_the_longest_of_all_gaps_counts() -> None:
    assert failover.rows({"cuts": [cut(0.2), cut(0.5), cut(0.3)]})[0].held
    assert failover.rows({"cuts": [cut(0.2), cut(0.51), cut(0.3)]})[0].held is False


def plans(thousand: float, five_thousand: float) -> dict[str, Any]:
    return {
        "runs": [
            {"nodes": 1000, "steps": 2002, "seconds": thousand},
            {"nodes": 5000, "steps": 10002, "seconds": five_thousand},
        ]
    }


@pytest.mark.parametrize(
    ("thousand", "five_thousand", "held"),
    [(0.02, 0.11, [True, None, True]), (0.11, 0.5, [False, None, True]), (0.01, 0.2, [True, None, False])],
)
def test_planning_has_to_be_fast_and_linear(thousand: float, five_thousand: float, held: list[bool | None]) -> None:
    assert [row.held for row in planning.rows(plans(thousand, five_thousand))] == held


def healed(**seconds: float) -> dict[str, Any]:
    def one(name: str) -> dict[str, Any]:
        return {"server": "demo-worker-2", "seconds": seconds.get(name, 100.0), "done": [["silent", 24.0]]}

    return {
        "masters": 3,
        "noticed": {"worker": 60, "master": 60},
        "creation": one("creation"),
        **{case.name: one(case.name) for case in healing.CASES},
    }


def test_healing_may_take_as_long_as_noticing_it_and_a_creation_and_a_fifth() -> None:
    assert [row.held for row in healing.rows(healed())] == [None, True, True, True, True]
    assert [row.held for row in healing.rows(healed(worker_gone=180.1))] == [None, True, False, True, True]
    late = healing.rows(healed(worker_power=180, master_power=240, master_gone=240.1))
    assert [row.held for row in late] == [None, True, True, True, False]
    assert late[4].limit == "240 s: 60 s + 1.2 x creation + 60 s"
    (table,) = healing.details(healed())
    assert list(table.lines[0]) == ["worker loses power (demo-worker-2)", "silent 24"]


class Measured:
    """A setting with a cluster whose history says what happened."""

    def __init__(self, store: Any) -> None:
        self.cluster = self
        self.store, self.name, self.commands = store, "demo", []  # type: ignore[var-annotated]

    def run(self, *words: str) -> None:
        self.commands.append(words)


def test_the_time_to_heal_ends_with_the_event_of_that_server(tmp_path) -> None:
    setting = Measured(Store(tmp_path, "demo"))
    history = History(setting.store)
    history.add("demo-worker-2", "healed", "of before")
    begun = time.time() + 0.02
    time.sleep(0.05)
    history.add("demo-worker-1", "healed", "another one")
    history.add("demo-worker-2", "begun", "reboot", step="reboot:demo-worker-2")
    history.add("demo-worker-2", "healed", "well")
    ended = healing._await(setting, "demo-worker-2", "healed", begun)  # type: ignore[arg-type]
    assert ended > begun
    measured = healing._measured(setting, "demo-worker-2", begun, ended)  # type: ignore[arg-type]
    assert [what for what, _ in measured["done"]] == ["healed"]
    assert setting.commands == [("salt-run", "managed_k8s.wait", "demo", "timeout=1200")]


def upgraded(failed: int) -> dict[str, Any]:
    api = {"probes": 1000, "failed": 2, "gap": 0.61}
    return {"nodes": 5, "seconds": 900.4, "asked": 30.0, "writes": 12345, "failed": ["failed"] * failed, "api": api}


def test_no_write_may_fail_while_the_cluster_is_upgraded() -> None:
    assert [row.held for row in upgrading.rows(upgraded(0))] == [None, True, None]
    assert upgrading.rows(upgraded(1))[1].held is False
    assert upgrading.rows(upgraded(1))[1].measured == "1 of 12,345"


def test_an_upgrade_that_cannot_be_measured_is_said(monkeypatch) -> None:
    def lacks(url: str) -> bytes:
        raise mirror.MirrorError(url)

    setting: Any = SimpleNamespace(cluster=SimpleNamespace(settings=settings()))
    monkeypatch.setattr(mirror, "fetch", lacks)
    assert upgrading._unfit(setting, ["1.36.3"]) == "the mirror has no 1.37.2"
    assert upgrading._unfit(setting, ["1.36.3", "1.37.2"]) == "the cluster runs 1.36.3, 1.37.2"
    monkeypatch.setattr(mirror, "fetch", lambda url: b"")
    assert upgrading._unfit(setting, ["1.36.3"]) == ""
    (row,) = upgrading.rows({"not_measured": "the mirror has no 1.37.2"})
    assert (row.measured, row.held) == ("not measured: the mirror has no 1.37.2", None)


def test_requests_must_not_grow_with_nodes() -> None:
    def runs(*counts: int) -> dict[str, Any]:
        one = {"compute": {"requests": 3, "sent": 1000, "received": 2000}}
        more = [{"nodes": 10, "traffic": {"compute": {"requests": n, "sent": 0, "received": 0}}} for n in counts]
        return {"first": one, "next": one, "stand_ins": more}

    assert calls.rows(runs(9, 9, 9))[-1].held
    assert calls.rows(runs(9, 9, 10))[-1].held is False
    assert calls.rows(runs(9))[0].measured == "3, 3 kB"


def test_traffic_to_all_services_is_added_up() -> None:
    one = {"requests": 1, "sent": 2, "received": 3}
    assert calls.total({"a": one, "b": one}) == Traffic(2, 4, 6)


def test_a_promise_that_was_not_held_is_said_in_the_page() -> None:
    rows = [report.Row("good", "1 s", "2 s", True), report.Row("bad", "3 s", "2 s", False)]
    text = report.text([("2026-01-01", "M", row) for row in rows], [])
    assert "| good | 1 s | 2 s | 2026-01-01 |\n| bad | **3 s: not held** | 2 s | 2026-01-01 |" in text


def test_machines_have_numbers_where_there_are_several() -> None:
    rows = [("2026-01-01", machine, report.Row("it", "1 s")) for machine in ("old", "new", "old")]
    text = report.text(rows, [])
    assert "(1) old; (2) new." in text
    assert [line[-5:-2] for line in text.splitlines() if line.startswith("| it")] == ["(1)", "(2)", "(1)"]


def test_cells_do_not_break_a_table() -> None:
    assert report.markdown(("b",), [("a|a", "1")]) == "|  | b |\n| --- | --- |\n| a/a | 1 |\n"


def test_the_page_is_that_of_the_last_figures() -> None:
    assert report.PAGE.read_text() == page.page(report.load()), "run: python -m bench.page"
    json.dumps(report.load())


# Recovery


def backups(seconds: float, plain: float) -> dict[str, Any]:
    one = {"member": "demo-master-2", "size": 523_000_000, "seconds": seconds, "command": 9.9, "stored": 500_000_000}
    snapshots = [{"seconds": plain + n, "size": 523_000_000} for n in (1, -1, 0)]
    measured = {"plain": snapshots, "first": one, "second": {**one, "stored": None}, "drill": 7.0}
    return dict.fromkeys(big_etcd.CONTENTS, measured)


@pytest.mark.parametrize(("seconds", "held"), [(6.0, True), (6.1, False)])
def test_a_backup_may_take_three_times_the_median_plain_snapshot(seconds: float, held: bool) -> None:
    rows = backing_up.rows(backups(seconds, 2.0))
    assert [row.held for row in rows] == [None, held, None, None, None, None, None, None]
    assert rows[1].measured == f"{seconds:.1f} s, {seconds / 2:.1f} times"
    table, _ = backing_up.details(backups(seconds, 2.0))
    assert [line[-1] for line in table.lines] == ["500.0 MB", "-", "-", "-", "-"]


@pytest.mark.parametrize(("seconds", "held"), [(45.0, True), (45.1, False)])
def test_a_lost_quorum_may_keep_the_api_away_for_45_seconds(seconds: float, held: bool) -> None:
    figures = {"lost": ["b", "c"], "answered": seconds, "seconds": 200.0, "steps": {"database": 20.0}}
    assert [row.held for row in quorum_lost.rows(figures)] == [held, None]


@pytest.mark.parametrize(("seconds", "held"), [(400.0, True), (401.0, False)])
def test_a_rebuilt_cluster_may_take_twice_its_creation(seconds: float, held: bool) -> None:
    figures = {"tested": seconds, "creation": 200.0, "seconds": 410.0, "steps": {"make": 90.0}}
    assert all_gone.rows(figures)[-1].held is held
    assert all_gone.details(figures)[0].lines == [["make", "90.0 s"]]


def test_no_server_is_deleted_unasked_but_of_a_cluster_that_this_run_made() -> None:
    found = SimpleNamespace(replace=False, found={}, cluster=SimpleNamespace(name="demo"))
    for part in (quorum_lost, all_gone):
        with pytest.raises(BenchError, match="--yes"):
            part.measure(found)
    found.found = {"creation": {}}
    disasters.refuse_unasked(found)  # type: ignore[arg-type]


class Masters(Setting):
    """A setting whose minions only remember what they were told."""

    def __init__(self) -> None:
        object.__setattr__(self, "told", [])

    @property
    def cluster(self) -> Any:
        nodes = ("gateway-1", "master-2", "master-1")
        return SimpleNamespace(nodes=[names.parse(f"demo-{name}") for name in nodes])

    def salt(self, targets: list[str], *words: str) -> dict[str, Any]:
        self.told.append((targets, words[-1]))  # type: ignore[attr-defined]
        return {}


def test_etcd_is_emptied_on_every_master_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(big_etcd, "_SETTLED", 0)
    setting = Masters()
    with pytest.raises(RuntimeError, match="torn"), big_etcd.filled(setting, big_etcd.OBJECTS, 7):
        raise RuntimeError("torn")
    told = setting.told  # type: ignore[attr-defined]
    (_, fill), (_, forget), synced = told[3:6]
    assert "seq 7" in fill
    assert "[1-20000]" in forget
    assert synced == (["demo-master-1", "demo-master-2"], "sync")
    for emptied in (told[:3], told[6:]):
        assert [targets for targets, _ in emptied] == [["demo-master-1"], ["demo-master-1"], ["demo-master-2"]]
        assert "del --prefix" in emptied[0][1]
        assert "compact --physical=true" in emptied[0][1]
        assert all(words.endswith(" defrag") for _, words in emptied[1:])


def test_asking_once_tells_whether_the_answer_was_good() -> None:
    assert not ask("127.0.0.1", 9, ssl.create_default_context())
