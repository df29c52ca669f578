"""A cluster with `cni: none`: its nodes wait for the pod network that the operator brings, and work with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from managed_k8s import mirror, settings
from managed_k8s.kube.addons import fetch, flannel
from managed_k8s.kube.addons.manifests import Images
from tests.e2e import second

pytestmark = pytest.mark.timeout(3600)
# Seconds until the API answers and all nodes have joined.
PATIENCE = 900


@pytest.fixture(scope="module")
def bare(beside):
    """The second cluster without a network for its pods; its nodes have joined."""
    beside.verb("destroy", "yes=True")
    file = beside.checkout.root / "pillar" / "clusters" / f"{second.NAME}.sls"
    before = file.read_text()
    content = yaml.safe_load(before)
    content["managed_k8s"]["kubernetes"]["cni"] = "none"
    file.write_text(yaml.safe_dump(content))
    beside.checkout.run("salt-cloud", "-y", "-m", "cluster.map", timeout=1200)
    within(PATIENCE, lambda: set(nodes(beside)) == {n for n in second.server_names() if "gateway" not in n})
    yield beside
    beside.verb("destroy", "yes=True")
    file.write_text(before)


def within(seconds: float, holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(5)


def nodes(cluster) -> dict[str, dict[str, Any]]:
    """Return what status says of Kubernetes's nodes, by name; nothing while it says nothing."""
    return {node["name"]: node for node in cluster.verb("status").get("nodes", []) if node.get("version")}


def bring(cluster) -> None:
    """Do what an operator with a network of his own does: import its image, apply its manifest.

    It is flannel, the only one that the lab's mirror has.
    """
    file = cluster.checkout.root / "pillar" / "clusters" / f"{second.NAME}.sls"
    written = settings.complete(yaml.safe_load(file.read_text()), file.name)
    found = mirror.artifacts(cluster.store, written)
    command = f"curl -sSf {found['base']}/images/flannel.tar | sudo ctr -n k8s.io images import --all-platforms=false -"
    for name in second.server_names():
        if "gateway" not in name:
            cluster.ssh(name, command)
    objects = flannel.objects(
        written["kubernetes"]["pod_cidr"], cluster.virtual_ip, fetch(found), Images(found["versions"])
    )
    kubectl = "sudo kubectl --kubeconfig /etc/kubernetes/admin.conf apply --server-side --filename -"
    cluster.ssh(f"{second.NAME}-master-1", kubectl, stdin=yaml.safe_dump_all(objects))


def test_nodes_wait_for_a_network_and_say_so(bare):
    def said() -> bool:
        found = bare.verb("status")
        assert not found["ready"]
        return any("small-worker-1: the node is not Ready" in line for line in found["waiting"])

    within(120, said)


def test_the_network_of_another_kind_is_refused_afterwards(bare):
    file = bare.checkout.root / "pillar" / "clusters" / f"{second.NAME}.sls"
    kept = file.read_text()
    file.write_text(kept.replace("cni: none", "cni: flannel"))
    try:
        refused = bare.checkout.run("salt-run", "managed_k8s.validate", second.NAME, check=False)
    finally:
        file.write_text(kept)
    assert refused.returncode == 1
    assert "kubernetes.cni: is flannel, but small was made with none" in refused.stdout + refused.stderr


def test_it_works_once_the_operator_brought_one(bare):
    bring(bare)
    bare.checkout.run("salt-run", "managed_k8s.wait", second.NAME, timeout=900)
    smoke = bare.verb("smoke")
    assert smoke["ok"], smoke
