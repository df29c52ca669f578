"""Whether an upgrade may begin."""

import dataclasses
from typing import Any

import pytest

from managed_k8s.artifacts import mirror
from managed_k8s.plan.upgrade_preflight import Situation, deprecated, problems, version_problems
from tests.support.settings import settings

OLD, NEW = "1.36.3", "1.37.2"
KNOWN = [OLD, NEW]
USED = (
    'apiserver_requested_deprecated_apis{group="flowcontrol.apiserver.k8s.io",removed_release="1.37",'
    'resource="flowschemas",subresource="",version="v1beta3"} 1'
)
GOOD = {"free": 10 << 30, "etcd": 100 << 20, "deprecated": []}


def situation(**changes: Any) -> Situation:
    made = Situation(
        cluster="demo", written=settings(), runs=OLD, kubelets={"demo-worker-1": OLD}, todo=[], etcd=True, begun="",
        maintenance=[], expected=["demo-worker-1"], answers={"demo-worker-1": GOOD},
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


@pytest.mark.parametrize("version", [NEW])
def test_the_next_minor_version_may_be_upgraded_to(version):
    assert version_problems(situation(), version, KNOWN) == []
    assert problems(situation(), version) == []


@pytest.mark.parametrize(
    ("version", "changes", "words"),
    [
        ("1.37", {}, "is no version; write it like 1.37.2"),
        (1.37, {}, "is no version"),
        ("1.37.9", {}, "1.37.9 cannot be installed; there are 1.36.3, 1.37.2"),
        (OLD, {}, "demo runs 1.36.3 already"),
        (OLD, {"runs": NEW}, "is older than what runs, 1.37.2; no cluster is made older"),
        ("1.38.0", {}, "no minor version may be skipped; first to 1.37.2"),
        ("1.40.0", {"runs": "1.38.1"}, "no minor version may be skipped; one after the other"),
        (NEW, {"runs": ""}, "the cluster's version cannot be asked"),
        (NEW, {"begun": "1.37.1"}, "an upgrade to 1.37.1 is under way"),
    ],
)
def test_versions_that_no_upgrade_leads_to(version, changes, words):
    found = version_problems(situation(**changes), version, [*KNOWN, "1.38.0", "1.40.0", "1.37.1"][:2])
    assert any(words in problem for problem in found), found


def test_an_upgrade_that_is_under_way_may_be_asked_for_again():
    assert version_problems(situation(begun=NEW, runs=NEW), NEW, KNOWN) == []


def test_everything_is_said_at_once():
    pinned = settings(artifacts={"sha256": "0" * 64})
    full = {"free": 1 << 30, "etcd": 1 << 30, "deprecated": [USED]}
    found = problems(
        situation(
            written=pinned, todo=["demo-worker-2: has no server"], etcd=False, maintenance=["demo-master-1"],
            kubelets={"demo-worker-1": "1.33.9"}, expected=["demo-worker-1", "demo-worker-2"],
            answers={"demo-worker-1": full},
        ),
        NEW,
    )  # fmt: skip
    text = "\n".join(found)
    for words in (
        "not as it should be: demo-worker-2: has no server", "etcd is not whole",
        "demo-master-1 are still to be rebooted",
        "artifacts.sha256 is of version 1.36.3", "kubelet 1.33.9 does not go with 1.37.2",
        "demo-worker-1: has 1.0 GiB of disk free; the upgrade needs 4.0 GiB",
        "demo-worker-2: its minion did not answer",
        "flowcontrol.apiserver.k8s.io/v1beta3 flowschemas is in use",
    ):  # fmt: skip
        assert words in text
    assert len(found) == 8


@pytest.mark.parametrize(
    ("line", "version", "count"),
    [
        (USED, NEW, 1),
        (USED, OLD, 0),
        (USED, "1.38.0", 1),
        (USED.replace("} 1", "} 0"), NEW, 0),
        (USED.replace("1.37", ""), NEW, 0),
        ('apiserver_requested_deprecated_apis{group="",removed_release="1.37",resource="x",version="v1"} 1', NEW, 1),
    ],
)
def test_only_what_will_be_gone_stands_in_the_way(line, version, count):
    assert len(deprecated([line, line], version)) == count


def test_what_the_mirror_lacks_is_named(monkeypatch):
    sums = dict.fromkeys(("bin/kubeadm", "bin/kubelet", "bin/kubectl", "images/etcd.tar", "versions.json"), "0")
    found = {"base": "http://m", "sums": sums, "versions": {"images": [{"archive": "images/etcd.tar"}]}}
    assert mirror.lacking(found) == []
    assert mirror.lacking({**found, "sums": {}}) == [
        "bin/kubeadm", "bin/kubectl", "bin/kubelet", "images/etcd.tar",
    ]  # fmt: skip
    monkeypatch.setattr(mirror, "_is_there", lambda url: not url.endswith("kubelet"))
    assert mirror.missing(found) == ["bin/kubelet"]
