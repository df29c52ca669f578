"""What an operator asks about a cluster, and what the sweep has written for Prometheus."""

import dataclasses
import io
from types import SimpleNamespace

import filelock
import pytest
import salt.utils.args
from rich.console import Console

from managed_k8s.config import load
from managed_k8s.errors import RequestError
from managed_k8s.model.steps import Step
from managed_k8s.operations import inspect
from managed_k8s.state import queue
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from managed_k8s.status import collect, terminal
from tests.support import worlds as worlds
from tests.support.settings import settings


@pytest.fixture
def opts(tmp_path):
    for name in ("checkout/pillar/clusters", "state"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "checkout" / "pillar" / "clusters" / "demo.sls").write_text("managed_k8s: {}\n")
    folders = {"checkout": str(tmp_path / "checkout"), "state": str(tmp_path / "state")}
    return {"managed_k8s": folders, "conf_file": str(tmp_path / "master"), "root_dir": str(tmp_path / "state")}


@pytest.fixture
def store(opts):
    return Store.of(opts, "demo")


@pytest.fixture
def looked(monkeypatch, store):
    """Return the worlds that a look finds; the last one is found."""
    found = [worlds.well()]
    cluster = SimpleNamespace(name="demo", store=store, settings=settings())
    monkeypatch.setattr(inspect, "Cluster", lambda opts, name: cluster)
    monkeypatch.setattr(collect, "look", lambda cluster: found[-1])
    monkeypatch.setattr(collect, "on_record", lambda cluster: found[-1])
    monkeypatch.setattr(load, "load", lambda opts, name: cluster.settings)
    return SimpleNamespace(worlds=found, cluster=cluster)


def printed(lines):
    console = Console(file=io.StringIO(), width=100, force_terminal=False)
    for line in lines:
        console.print(line, soft_wrap=True)
    return console.file.getvalue()


# History


def add(store, **entry):
    History(store).add(entry.pop("subject"), entry.pop("what"), entry.pop("reason"), **entry)


def test_history_says_what_why_and_how_long(opts, store):
    add(store, subject="demo-worker-1", what="begun", reason="join demo-worker-1", step="join:demo-worker-1")
    step = {"step": "join:demo-worker-1", "seconds": 72.0}
    add(store, subject="demo-worker-1", what="joined", reason="join [demo-worker-1]", **step)
    add(store, subject="backup", what="failed", reason=f"{'the disk is full ' * 20}\nTo do: x", seconds=1.0)
    text = printed(terminal.history(inspect.history(opts, None, None, None, 30)))
    assert "1 min 12 s" in text
    assert "join [demo-worker-1]" in text
    assert text.rstrip().splitlines()[-1].endswith("went wrong, 1 min 13 s of work.")
    assert inspect.history(opts, None, "demo-worker-1", "1h", 1)["done"][0]["what"] == "joined"
    assert inspect.history(opts, None, "backup", None, 30)["failed"] == 1


def test_history_takes_the_cluster_from_the_node(opts, store):
    (load.folder(opts) / "other.sls").write_text("")
    assert inspect.history(opts, None, "demo-worker-1", None, 30) == {
        "cluster": "demo", "done": [], "events": [], "count": 0, "failed": 0, "seconds": 0,
    }  # fmt: skip
    assert printed(terminal.history({"done": []})) == "Nothing.\n"


@pytest.mark.parametrize(
    ("node", "since", "words"), [("worker", None, "there are backup"), (None, "soon", "write it like 2h")]
)
def test_history_of_what_is_not_there_is_refused(opts, store, node, since, words):
    add(store, subject="backup", what="made", reason="x")
    with pytest.raises(RequestError, match=words):
        inspect.history(opts, "demo", node, since, 30)


def test_a_step_that_runs_is_said_to_run_while_its_reconciler_lives(opts, store):
    add(store, subject="cluster", what="begun", reason="run the smoke test", step="smoke")
    store.write("state.json", {"running": [{"id": "smoke"}]})
    with queue.lock(store):
        assert inspect.history(opts, "demo", None, None, 30)["done"][0]["what"] == "running"
    assert inspect.history(opts, "demo", None, None, 30)["done"][0]["what"] == "interrupted"


def test_a_time_of_day_comes_as_a_number_from_salt(opts, store, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr(inspect.history_view, "since", lambda words, now: asked.append(words) or 0)
    for since in (salt.utils.args.yamlify_arg(words) for words in ("14:00", "08:30", "2h", "2026-11-24")):
        inspect.history(opts, "demo", None, since, 30)
    assert asked == ["14:00", "08:30", "2h", "2026-11-24"]


# Plan


def test_the_plan_says_when_each_step_begins(opts, looked, monkeypatch):
    steps = [Step("join:a", "join", "a", "join a"), Step("smoke", "smoke", "", "run the smoke test", ("join:a",))]
    situation = SimpleNamespace(cluster="demo", steps=steps, waiting=["a minion"], ready=False)
    monkeypatch.setattr(inspect.reconcile, "look", lambda opts, cluster: situation)
    data = inspect.plan(opts, None)
    assert (data["steps"], data["waiting"]) == (["join a", "run the smoke test"], ["a minion"])
    text = printed(terminal.plan(data))
    assert "1.  join a" in text
    assert "in 1 min 0 s" in text
    assert "after: join a" in text
    assert "- a minion" in text


def test_an_empty_plan_says_so(opts, looked, monkeypatch):
    situation = SimpleNamespace(cluster="demo", steps=[], waiting=[], ready=True)
    monkeypatch.setattr(inspect.reconcile, "look", lambda opts, cluster: situation)
    assert printed(terminal.plan(inspect.plan(opts, None))) == "Nothing: demo is as it should be.\n"


# Check


@pytest.fixture
def saved(monkeypatch):
    problems: list[str] = []
    monkeypatch.setattr(inspect.backing_up, "check", lambda opts, name: {"cluster": name, "problems": [*problems]})
    return problems


def on_record(**more):
    return dataclasses.replace(worlds.silence(), unknown={}, **more)


def test_check_is_content_with_a_cluster_that_is_well(opts, looked, saved):
    looked.worlds.append(on_record(state=worlds.state(), certificates=worlds.CERTIFICATES))
    assert inspect.check(opts, None) == {"cluster": "demo", "problems": []}


def test_check_says_everything_once(opts, looked, saved):
    saved += ["the cluster is not ready", "the disk is full"]
    backup = dataclasses.replace(worlds.well().backup, problems=("the disk is full",))
    state = worlds.state(ready=False, waiting=["demo-worker-1: has no server"], time=worlds.NOW - 3600)
    attempts = {"smoke": {"count": 3, "until": 0, "why": "no DNS"}}
    looked.worlds.append(on_record(state=state, backup=backup, attempts=attempts))
    problems = inspect.check(opts, None)["problems"]
    assert problems[:3] == ["the cluster is not ready", "the disk is full", "demo-worker-1: has no server"]
    assert "smoke: failed 3 times, last: no DNS" in problems
    assert any("60 minutes ago" in problem for problem in problems)
    assert sum("the disk is full" in problem for problem in problems) == 1


# Files


def test_a_diagram_is_in_the_clusters_folder_or_where_it_is_wanted(opts, looked, store, tmp_path):
    assert inspect.diagram(opts, None, None)["path"] == str(store.folder / "diagram.svg")
    assert inspect.diagram(opts, None, str(tmp_path / "x.svg"))["ready"]
    assert (tmp_path / "x.svg").read_text().startswith("<svg")
    assert (tmp_path / "x.svg").stat().st_mode & 0o777 == 0o644
    assert not list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("out", ["nowhere/x.svg", "."])
def test_a_file_that_cannot_be_is_refused_before_anybody_is_asked(opts, looked, tmp_path, out):
    looked.worlds.append(None)
    with pytest.raises(RequestError):
        inspect.diagram(opts, None, str(tmp_path / out))


def test_metrics_are_printed_or_written(opts, looked, tmp_path):
    assert 'managed_k8s_ready{cluster="demo"} 1.0' in inspect.measure(opts, None, None)["text"]
    inspect.measure(opts, None, str(tmp_path / "demo.prom"))
    assert 'managed_k8s_ready{cluster="demo"} 1.0' in (tmp_path / "demo.prom").read_text()


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "x.prom"
    inspect._publish(target, "old")
    monkeypatch.setattr(inspect.Path, "replace", lambda self, other: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        inspect._publish(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


# The sweep


@pytest.fixture
def started(monkeypatch):
    found: list[str] = []
    monkeypatch.setattr(queue, "start", lambda opts, store, what="reconcile": found.append(what))
    return found


def test_metrics_are_written_by_each_sweep_where_settings_want_them(opts, looked, store, started, tmp_path):
    add(store, subject="cluster", what="ready", reason="x")
    assert inspect.sweep(opts) == {"clusters": []}
    looked.cluster.settings = settings(metrics={"file": str(tmp_path / "demo.prom")})
    assert inspect.sweep(opts) == {"clusters": ["demo"]}
    assert started == ["metrics"]
    inspect.publish(opts, "demo")
    assert "managed_k8s_ready" in (tmp_path / "demo.prom").read_text()


def test_nobody_writes_metrics_beside_another(opts, looked, store, started, tmp_path):
    add(store, subject="cluster", what="ready", reason="x")
    looked.cluster.settings = settings(metrics={"file": str(tmp_path / "demo.prom")})
    with filelock.FileLock(store.path(inspect.LOCK)):
        assert inspect.sweep(opts) == {"clusters": []}
        inspect.publish(opts, "demo")
    assert not (tmp_path / "demo.prom").exists()


def test_a_cluster_that_is_gone_takes_its_metrics_along(opts, looked, started, tmp_path):
    file = tmp_path / "demo.prom"
    looked.cluster.settings = settings(metrics={"file": str(file)})
    file.write_text("somebody else's")
    inspect.sweep(opts)
    assert file.exists()
    inspect.measure(opts, None, str(file))
    assert inspect.sweep(opts) == {"clusters": []}
    assert not file.exists()
    assert started == []


def test_looking_for_a_cluster_that_is_gone_makes_no_folder(opts, looked, store, tmp_path):
    looked.cluster.settings = settings(metrics={"file": str(tmp_path / "demo.prom")})
    inspect.sweep(opts)
    assert not store.folder.exists()
