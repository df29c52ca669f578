"""What people and programs are told about a cluster that is well, about one that waits, and about what was done."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ElementTree

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.timeout(1800)


def said(demo, verb, *words):
    """Return what a verb prints for people."""
    return demo.checkout.run("salt-run", f"managed_k8s.{verb}", demo.name, *words).stdout


def metrics(demo):
    """Return the metrics that a cluster has one of: name -> number."""
    families = text_string_to_metric_families(demo.verb("metrics")["text"])
    samples = [sample for family in families for sample in family.samples]
    return {sample.name: sample.value for sample in samples if sample.labels == {"cluster": demo.name}}


def drawn(demo, folder):
    """Return the names of servers that are in the picture."""
    demo.checkout.run("salt-run", "managed_k8s.diagram", demo.name, f"out={folder}/demo.svg")
    root = ElementTree.parse(folder / "demo.svg").getroot()  # noqa: S314 (our own)
    texts = {"".join(element.itertext()).strip() for element in root.iter() if element.tag.endswith("text")}
    return texts & set(demo.servers)


def test_a_cluster_that_is_well_has_nothing_to_do(demo):
    assert "Nothing: demo is as it should be." in said(demo, "plan")
    assert demo.verb("plan")["ready"] is True
    found = metrics(demo)
    assert found["managed_k8s_ready"] == found["managed_k8s_api_up"] == found["managed_k8s_etcd_quorum"] == 1
    assert found["managed_k8s_steps"] == found["managed_k8s_waiting"] == found["managed_k8s_paused"] == 0
    assert found["managed_k8s_address_holders"] == 1


def test_what_happens_next_is_said_while_nothing_is_done_and_what_was_done_afterwards(demo, tmp_path):
    worker, since = demo.names("worker")[-1], time.time()
    assert demo.verb("pause", "reason=a test")["retcode"] == 0
    try:
        assert demo.checkout.data("reboot", f"node={worker}")["retcode"] == 0
        for verb in ("plan", "status"):
            text = said(demo, verb)
            assert "a test" in text
            assert f"reboot {worker}" in text
        assert "demo is not ready." in said(demo, "status")
        step, *more = demo.verb("plan")["upcoming"]
        assert (step["what"], step["when"], more) == (f"reboot {worker}", None, [])
        assert demo.verb("status")["next"] == [f"reboot {worker}"]
        found = metrics(demo)
        assert (found["managed_k8s_paused"], found["managed_k8s_steps"], found["managed_k8s_ready"]) == (1, 1, 0)
        assert drawn(demo, tmp_path) == set(demo.servers)
    finally:
        assert demo.verb("resume")["retcode"] == 0
    demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, timeout=1500)
    rows = demo.verb("history", f"node={worker}", "since=1h")["done"]
    (row,) = [row for row in rows if row["what"] == "maintained" and row["time"] >= since]
    assert row["seconds"] > 0
    text = said(demo, "history", f"node={worker}", "since=1h")
    assert "maintained" in text
    assert f"reboot {worker}" in text
    whole = [row["what"] for row in demo.verb("history", "node=cluster", "since=1h")["done"] if row["time"] >= since]
    assert whole.index("paused") < whole.index("resumed")


def test_wrong_questions_are_one_message(demo):
    for verb, words, part in (
        ("history", ("since=yesterday",), "is no time; write it like"),
        ("history", ("node=nobody",), "nothing was ever done to"),
        ("diagram", ("out=/nowhere/demo.svg",), "does not exist"),
    ):
        answer = demo.verb(verb, *words)
        assert answer["retcode"] == 1
        assert part in answer["error"]
