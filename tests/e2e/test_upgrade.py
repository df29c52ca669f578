"""The cluster of cluster.map goes to the next minor version while a workload is written to through its service."""

from __future__ import annotations

import secrets

import pytest
import requests

from bench import workload
from managed_k8s import inputs, observe_kubernetes, wakeups
from managed_k8s import settings as known
from managed_k8s.kube.smoke import workspace
from managed_k8s.upgrade import versions
from tests.e2e.project import eventually

pytestmark = pytest.mark.timeout(7200)


@pytest.fixture(scope="module")
def target(demo) -> str:
    """The newest version that the mirror has and that is one minor version ahead."""
    (before,) = {node["version"] for node in observe_kubernetes.nodes(demo.api).values()}
    base = inputs.load({}, demo.name)["artifacts"]["url"]
    after = [
        version
        for version in known.versions()
        if versions.minor(version)[1] == versions.minor(before)[1] + 1
        and requests.head(f"{base}/kubernetes/{version}/SHA256SUMS", timeout=10).ok
    ]
    if not after:
        pytest.skip(f"the mirror has no version after {before}; kubernetes: of the lab's settings (docs/lab.md)")
    return str(max(after, key=versions.number))


@pytest.fixture
def space(demo):
    made = workspace.Workspace(demo.api, f"e2e-upgrade-{secrets.token_hex(3)}")
    made.core.create_namespace({"metadata": {"name": made.namespace}})
    yield made
    made.remove()


def test_what_leads_nowhere_is_refused_and_changes_nothing(demo, target):
    for version, words in (("0.9", "is no version"), (target.rpartition(".")[0] + ".99", "cannot be installed")):
        answer = demo.verb("upgrade", f"version={version}")
        assert answer["retcode"] == 1
        assert words in answer["error"]
    assert demo.verb("plan")["steps"] == []


def test_the_cluster_is_upgraded_and_no_write_is_lost(demo, target, space):
    workload.start(space)
    asked = demo.verb("upgrade", f"version={target}", timeout=1800)
    assert asked["retcode"] == 0, asked
    assert asked["backup"]

    # The reconciler dies in the middle of it; the sweep starts another one.
    eventually(lambda: any(entry["what"] == "control_plane_upgraded" for entry in demo.history()), 1800, interval=5)
    for process in wakeups.reconcilers(str(demo.checkout.root / "master"), demo.name):
        process.kill()
    demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, "timeout=5400", timeout=5500)

    nodes = observe_kubernetes.nodes(demo.api)
    assert {node["version"] for node in nodes.values()} == {target}
    assert not any(node["unschedulable"] for node in nodes.values())
    assert demo.verb("plan")["steps"] == []
    counted = workload.said(space)
    assert counted
    assert [line for _, failed in counted.values() for line in failed] == []
    assert all(count > 100 for count, _ in counted.values()), counted
    assert demo.verb("smoke")["ok"]


def test_the_way_back_is_named(demo, target):
    found = demo.verb("rollback")
    assert found["retcode"] == 0
    assert found["backup"] in {one["name"] for one in demo.verb("backups")["backups"]}
    assert demo.verb("upgrade", f"version={target}")["retcode"] == 1, "it is there already"


def test_a_worker_is_rebooted(demo):
    worker = demo.names("worker")[0]
    before = demo.checkout.salt(worker, "managed_k8s_upgrade.boot")[worker]
    assert demo.checkout.data("reboot", f"node={worker}")["retcode"] == 0
    demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, timeout=1800)
    assert demo.checkout.salt(worker, "managed_k8s_upgrade.boot")[worker] != before
    assert not observe_kubernetes.nodes(demo.api)[worker]["unschedulable"]


def test_certificates_are_renewed_on_one_master(demo):
    master = demo.names("master")[0]
    before = demo.checkout.salt(master, "managed_k8s_upgrade.certificates")[master]
    assert demo.checkout.salt(master, "managed_k8s_upgrade.renew")[master] == {"not_well_yet": []}
    after = demo.checkout.salt(master, "managed_k8s_upgrade.certificates")[master]
    assert after["control_plane"] >= before["control_plane"]
    assert after["renewing"] is False
    eventually(lambda: demo.answers("/readyz").status_code == 200, 120)
    assert demo.verb("plan")["steps"] == []
