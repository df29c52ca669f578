"""The cluster of cluster.map goes to the next minor version while a workload is written to through its service."""

from __future__ import annotations

import time

import pytest
import requests
import yaml
from kubernetes.client import CoreV1Api, VersionApi

from managed_k8s.config import kubernetes_versions
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.model.rollout import minor, number
from managed_k8s.state import queue, versions
from managed_k8s.state.history import History
from tests.support.asking import GAP, Asking, is_ready
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(9000)

# A ConfigMap of after the upgrade.
AFTER = "e2e-after-the-upgrade"


def runs(demo):
    """Return which versions kubelets have."""
    return {node["version"] for node in kube_nodes.nodes(demo.api).values()}


@pytest.fixture(scope="module")
def target(demo) -> str:
    """The newest version that the mirror has and that is one minor version ahead."""
    (before,) = runs(demo)
    written = yaml.safe_load((demo.checkout.root / "pillar/clusters/demo.sls").read_text())
    base = written["managed_k8s"]["artifacts"]["url"]
    after = [
        version
        for version in kubernetes_versions.SUPPORTED
        if minor(version)[1] == minor(before)[1] + 1
        and requests.head(f"{base}/kubernetes/{version}/SHA256SUMS", timeout=10).ok
    ]
    if not after:
        pytest.skip(f"the mirror has no version after {before}; kubernetes: of the lab's settings (docs/lab.md)")
    return str(max(after, key=number))


def done(demo, since, what):
    """Return the servers on which a step of a kind was done since, in that order."""
    entries = History(demo.store).last(100_000)
    return [entry["subject"] for entry in entries if entry["what"] == what and entry["time"] >= since]


def test_what_leads_nowhere_is_refused_and_changes_nothing(demo, target):
    far = target.rpartition(".")[0] + ".99"
    for version, words in (("0.9", "is no version"), ("newest", "is no version"), (far, "cannot be installed")):
        answer = demo.verb("upgrade", f"version={version}")
        assert answer["retcode"] == 1
        assert words in answer["error"]
    assert demo.verb("plan")["steps"] == []


def test_it_is_said_whether_it_could_begin(demo, target):
    said = demo.checkout.run("salt-run", "managed_k8s.upgrade", "demo", f"version={target}", "test=True").stdout
    assert "Nothing speaks against upgrading demo" in said
    assert demo.verb("plan")["steps"] == []


def test_the_cluster_is_upgraded_and_no_write_is_lost(demo, target, serving):
    serving.start()
    since = time.time()
    with Asking(is_ready(demo.public_address, str(demo.store.folder / "ca.crt"))) as asking:
        asked = demo.verb("upgrade", f"version={target}", timeout=1800)
        assert asked["retcode"] == 0, asked
        assert asked["backup"]

        # The reconciler dies in the middle of it; the sweep starts another one.
        eventually(lambda: done(demo, since, "control_plane_upgraded"), 2400, interval=1)
        for process in queue.reconcilers(str(demo.checkout.root / "master"), demo.name):
            process.kill()
        demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, "timeout=7200", timeout=7300)
    counted = serving.written()
    print(f"{target} after {time.time() - since:.0f} s, longest gap of the API {asking.gap:.1f} s, writes {counted}")

    masters, workers = demo.names("master"), demo.names("worker")
    assert sorted(set(done(demo, since, "control_plane_upgraded"))) == masters
    assert sorted(done(demo, since, "kubelet_upgraded")) == [*masters, *workers]
    assert done(demo, since, "kubelet_upgraded")[: len(masters)] == masters, "masters first, one by one"
    assert runs(demo) == {target}
    assert not any(node["unschedulable"] for node in kube_nodes.nodes(demo.api).values())
    assert demo.verb("plan")["steps"] == []
    assert demo.verb("status")["ready"]
    assert counted
    assert [line for _, failed in counted.values() for line in failed] == []
    assert all(count > 100 for count, _ in counted.values()), counted
    assert asking.gap < GAP
    assert demo.verb("smoke")["ok"]


def test_every_part_has_the_new_version(demo, target):
    for name in [*demo.names("master"), *demo.names("worker")]:
        assert demo.ssh(name, "kubelet --version; kubeadm version --output=short").split() == [
            "Kubernetes", f"v{target}", f"v{target}",
        ]  # fmt: skip
        assert demo.ssh(name, "ls /usr/local/lib/managed-k8s/upcoming 2>/dev/null || true") == ""
    for name in demo.names("master"):
        images = demo.ssh(name, "sudo sh -c 'grep -h image: /etc/kubernetes/manifests/kube-*.yaml'").splitlines()
        assert {image.rpartition(":v")[2] for image in images} == {target}


def test_a_backup_says_which_version_it_is_of(demo, target):
    assert demo.verb("backup", "reason=upgraded")["kubernetes"] == target


def test_states_applied_again_change_nothing(demo, target):
    answers = demo.checkout.salt("demo-*", "state.apply")
    changed = [state["__id__"] for answer in answers.values() for state in answer.values() if state["changes"]]
    assert changed == []


def test_there_is_no_way_but_the_backup_back(demo, target):
    before = demo.store.read(versions.WANTED)["before"]
    for version, words in ((before, "no cluster is made older"), (target, "already")):
        answer = demo.verb("upgrade", f"version={version}")
        assert answer["retcode"] == 1
        assert words in answer["error"]
    answer = demo.verb("rollback")
    assert answer["retcode"] == 1
    assert "nobody can be asked here" in answer["error"]
    assert runs(demo) == {target}


def test_the_backup_of_before_brings_the_old_version_back(demo, target):
    before = demo.store.read(versions.WANTED)["before"]
    core = CoreV1Api(demo.api)
    core.create_namespaced_config_map("default", {"metadata": {"name": AFTER}})
    since = time.time()
    answer = demo.verb("rollback", "yes=True", timeout=2400)
    print(f"back to {before} after {time.time() - since:.0f} s")
    assert (answer["retcode"], answer["to"]) == (0, before), answer
    assert VersionApi(demo.api).get_code().git_version == f"v{before}"
    assert AFTER not in {item.metadata.name for item in core.list_namespaced_config_map("default").items}
    # Masters become older where they are; workers are made anew.
    assert runs(demo) == {before}
    assert sorted(done(demo, since, "removed")) == demo.names("worker")
    assert demo.verb("plan")["steps"] == []
    assert demo.verb("smoke")["ok"]
