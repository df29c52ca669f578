"""What was done, from the events in the history."""

import datetime

import pytest

from managed_k8s.status import history_view

NOW = datetime.datetime(2026, 11, 24, 17, 0).timestamp()


def entry(minutes, what, subject="demo-worker-1", reason="join demo-worker-1", **more):
    return {"time": NOW - 60 * minutes, "subject": subject, "what": what, "reason": reason, "id": subject, **more}


JOIN = {"step": "join:demo-worker-1"}
HISTORY = [
    entry(50, "begun", **JOIN),
    entry(49, "progress"),
    entry(48, "failed", reason="kubeadm join failed", seconds=90.0, **JOIN),
    entry(40, "begun", **JOIN),
    entry(30, "begun", **JOIN),
    entry(29, "joined", seconds=61.5, **JOIN),
    entry(20, "made", "backup", "etcd-1 on demo-master-1", seconds=4.0),
    entry(10, "begun", "cluster", "run the smoke test", step="smoke"),
]


def test_a_step_is_one_thing_with_its_end_its_reason_and_how_long_it_took():
    rows = history_view.done(HISTORY, running={"smoke"})
    assert [(row["what"], row["subject"], row["seconds"]) for row in rows] == [
        ("failed", "demo-worker-1", 90.0),
        ("interrupted", "demo-worker-1", None),
        ("joined", "demo-worker-1", 61.5),
        ("made", "backup", 4.0),
        ("running", "cluster", None),
    ]
    assert rows[0]["why"] == "kubeadm join failed"
    assert history_view.summary(rows) == {"count": 5, "failed": 2, "seconds": 155.5}


def test_what_has_no_end_and_does_not_run_was_interrupted():
    assert history_view.done(HISTORY)[-1]["what"] == "interrupted"


def test_only_of_a_server_and_since_then():
    assert {row["subject"] for row in history_view.done(HISTORY, node="demo-worker-1")} == {"demo-worker-1"}
    assert [row["what"] for row in history_view.done(HISTORY, after=NOW - 25 * 60)] == ["made", "interrupted"]


@pytest.mark.parametrize(
    ("words", "then"),
    [
        ("90s", NOW - 90), ("30m", NOW - 1800), (" 2 h", NOW - 7200), ("7d", NOW - 7 * 86400), ("1w", NOW - 604800),
        ("16:00", NOW - 3600), ("2026-11-24 16:00", NOW - 3600), ("2026-11-24 16:59:50", NOW - 10),
        ("2026-11-24", NOW - 17 * 3600),
    ],
)  # fmt: skip
def test_times_as_people_write_them(words, then):
    assert history_view.since(words, NOW) == then


@pytest.mark.parametrize("words", ["", "yesterday", "2", "h", "2 hours", "25:00", "2026-13-01", "-2h"])
def test_what_is_no_time_is_refused(words):
    with pytest.raises(ValueError, match="write it like 2h"):
        history_view.since(words, NOW)
