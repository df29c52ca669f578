import dataclasses
import io

import pytest
from hypothesis import given, settings
from rich.console import Console

from managed_k8s.model.cluster import Observed
from managed_k8s.plan import plan, progress, waiting
from managed_k8s.status import live
from managed_k8s.status.live import Scene
from tests.support.clusters import DEMO, FRESH, change, desired, healthy, servers, with_facts, worlds

NOW = 1000.0


def state(observed, want=DEMO, running=(), **more):
    steps = plan(want, observed)
    return {
        "time": NOW, "since": NOW - 72, "until": None, "ready": not steps and not waiting(want, observed),
        "steps": [dataclasses.asdict(step) for step in steps], "waiting": waiting(want, observed),
        "servers": progress.servers(want, observed), "parts": progress.parts(want, observed),
        "running": list(running), **more,
    }  # fmt: skip


def running(kind, node="", seconds=12):
    return {"id": f"{kind}:{node}" if node else kind, "kind": kind, "node": node, "since": NOW - seconds}


def seen(found, attempts=None, entries=(), working=True, width=100, height=50):
    scene = Scene("demo", found, attempts or {}, entries, working, NOW)
    console = Console(file=io.StringIO(), width=width, force_terminal=False, legacy_windows=False)
    console.print(live.draw(scene, height))
    return console.file.getvalue()


def row(text, name):
    return next(line for line in text.splitlines() if line.startswith(name))


FRESH_WORLD = Observed(servers(), dict.fromkeys(servers(), FRESH))


def test_every_server_has_a_row_with_what_runs_on_it_and_for_how_long():
    text = seen(state(FRESH_WORLD, running=[running("converge", "demo-master-1", 75)]))
    found = " ".join(row(text, "demo-master-1").split())
    assert found == "demo-master-1 ACTIVE connected · not joined ● converge 1 min 15 s"
    assert all(row(text, node.id) for node in DEMO.nodes)


def test_the_head_says_how_far_and_how_long():
    head = seen(state(FRESH_WORLD)).splitlines()[0]
    assert head.startswith("demo")
    assert "0 of 16 steps" in head
    assert "1 min 12 s" in head
    ready = seen(state(healthy(), until=NOW - 60)).splitlines()[0]
    assert "16 of 16 steps" in ready
    assert "1 min" not in ready, "the time stands still once it is ready"
    assert "ready" in ready


def test_what_concerns_the_whole_cluster_shows_what_it_is_at():
    entries = [{"time": NOW, "subject": "addons", "what": "progress", "reason": "Deployment coredns"}]
    world = change(healthy(), addons=False, smoke=None)
    text = seen(state(world, running=[running("addons", seconds=3)]), entries=entries)
    line = next(line for line in text.splitlines() if "add-ons" in line and "●" in line)
    assert "3 s  Deployment coredns" in line
    assert "✓  access to the API" in text
    assert "·  smoke test" in text


def test_a_failure_is_where_it_happened_and_says_when_it_is_tried_again():
    attempts = {"join:demo-worker-1": {"count": 2, "until": NOW + 8, "why": "no"}}
    world = with_facts(change(healthy(), ready={}), "demo-worker-1", kubeadm="none")
    text = seen(state(world), attempts)
    assert "✗ join failed (2), again in 8 s" in row(text, "demo-worker-1")
    assert "✗" not in row(text, "demo-worker-2")
    again = seen(state(world, running=[running("join", "demo-worker-1")]), attempts)
    assert "✗" not in again, "it runs: whether it fails again is to be seen"


def test_what_a_dead_reconciler_was_at_is_not_shown_as_running():
    found = state(FRESH_WORLD, running=[running("converge", "demo-master-1")])
    text = seen(found, working=False)
    assert "●" not in text
    assert "No reconciler is at work" in text
    assert "No reconciler" not in seen(found)
    assert "No reconciler" not in seen(state(healthy()), working=False)


def test_before_the_first_look():
    assert "first look" in seen({})


def test_of_a_large_cluster_those_are_shown_that_need_something():
    want = desired(workers=300)
    world = change(healthy(want), ready={**healthy(want).ready, "demo-worker-250": False})
    text = seen(state(world, want, running=[running("converge", "demo-worker-270")]), height=40)
    assert row(text, "demo-worker-250")
    assert row(text, "demo-worker-270")
    assert len(text.splitlines()) < 40
    assert "and 290 more" in text


def test_nothing_in_a_message_is_markup():
    entry = {"time": NOW, "subject": "cluster", "what": "look_failed", "reason": "[red]x[/] [/nonsense]"}
    assert "[red]x[/] [/nonsense]" in seen(state(FRESH_WORLD), entries=[entry])


def test_a_long_reason_takes_one_line():
    entry = {"time": NOW, "subject": "demo-worker-1", "what": "failed", "reason": f"{'x' * 300}\nTo do: see"}
    text = seen(state(FRESH_WORLD), entries=[entry])
    assert "To do" not in text
    assert len(text.splitlines()) == len(seen(state(FRESH_WORLD)).splitlines()) + 2


def test_it_fits_a_narrow_terminal():
    text = seen(state(FRESH_WORLD, running=[running("converge", "demo-master-1")]), width=80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "converge 12 s" in row(text, "demo-master-1")


@pytest.mark.parametrize(
    ("seconds", "words"), [(-3, "0 s"), (9.9, "9 s"), (72, "1 min 12 s"), (7500, "2 h 5 min")]
)  # fmt: skip
def test_durations(seconds, words):
    assert live.duration(seconds) == words


@settings(max_examples=200)
@given(worlds())
def test_steps_that_are_planned_are_not_counted_as_done(observed):
    done, every = progress.count(progress.servers(DEMO, observed), progress.parts(DEMO, observed))
    # Access is planned together with what it serves; every other step is one that is counted.
    assert done + len(plan(DEMO, observed)) <= every + 1
    if not plan(DEMO, observed) and not waiting(DEMO, observed):
        assert done == every


def test_a_fresh_cluster_has_as_many_steps_as_its_plan():
    assert progress.count(progress.servers(DEMO, FRESH_WORLD), progress.parts(DEMO, FRESH_WORLD)) == (0, 16)
    assert len(plan(DEMO, FRESH_WORLD)) == 16
