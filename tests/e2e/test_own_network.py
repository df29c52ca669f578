"""A cluster with `cni: none`: its nodes wait for the pod network that the operator brings, and work with it."""

from __future__ import annotations

import pytest
import yaml

from managed_k8s.artifacts import mirror
from managed_k8s.kube.addons import fetch, flannel
from managed_k8s.kube.addons.manifests import Images
from tests.e2e import second
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(3600)
# Seconds until the API answers and all nodes have joined.
PATIENCE = 900
NODES = [name for name in second.server_names() if "gateway" not in name]


@pytest.fixture(scope="module")
def bare(beside):
    """The second cluster without a network for its pods; its nodes have joined."""
    beside.verb("destroy", "yes=True")
    file = second.settings_file(beside.checkout.root)
    before = file.read_text()
    content = yaml.safe_load(before)
    content["managed_k8s"]["kubernetes"]["cni"] = "none"
    file.write_text(yaml.safe_dump(content))
    beside.checkout.run("salt-cloud", "-y", "-m", "cluster.map", timeout=1200)
    eventually(lambda: nodes(beside) == set(NODES), PATIENCE, 5)
    yield beside
    beside.verb("destroy", "yes=True")
    file.write_text(before)


def nodes(cluster) -> set[str]:
    """Return the names of Kubernetes's nodes as status says them; none while it says nothing."""
    return {node["name"] for node in cluster.verb("status").get("nodes", []) if node.get("version")}


def bring(cluster) -> None:
    """Do what an operator with a network of his own does: import its image, apply its manifest.

    It is flannel, the only one that the lab's mirror has.
    """
    settings = cluster.settings
    found = mirror.artifacts(cluster.store, settings)
    command = f"curl -sSf {found['base']}/images/flannel.tar | sudo ctr -n k8s.io images import --all-platforms=false -"
    for name in NODES:
        cluster.ssh(name, command)
    objects = flannel.objects(settings.kubernetes.pod_cidr, cluster.virtual_ip, fetch(found), Images(found["versions"]))
    kubectl = "sudo kubectl --kubeconfig /etc/kubernetes/admin.conf apply --server-side --filename -"
    cluster.ssh(f"{second.NAME}-master-1", kubectl, stdin=yaml.safe_dump_all(objects))


def test_nodes_wait_for_a_network_and_say_so(bare):
    def said() -> bool:
        return any("small-worker-1: the node is not Ready" in line for line in bare.verb("status")["waiting"])

    eventually(said, 120, 5)
    # Neither now nor at any time before.
    assert not bare.verb("status")["ready"]
    assert "ready" not in [entry["what"] for entry in bare.history()]


def test_the_network_of_another_kind_is_refused_afterwards(bare):
    file = second.settings_file(bare.checkout.root)
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
