"""What a node's pillar says of its container images."""

import pytest

from managed_k8s.artifacts import mirror
from managed_k8s.minions import pillar as node_pillar
from managed_k8s.names import Node
from managed_k8s.state.store import Store
from tests.support.settings import settings

# `kubeadm config images list`: what its preflight of a control plane pulls when it is not there.
KUBEADMS = {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns", "pause", "etcd"}
ALL = KUBEADMS | {"flannel", "cinder-csi-plugin", "csi-provisioner", "openstack-cloud-controller-manager"}


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Return a function: role -> the names of the images that come first, and later."""
    found = [{"archive": f"images/{name}.tar", "name": name, "tag": "1", "digest": name} for name in sorted(ALL)]
    artifacts = {
        "base": "http://mirror.example/kubernetes/1.36.3",
        "sums": {image["archive"]: "sum" for image in found},
        "versions": {"images": found},
    }
    monkeypatch.setattr(mirror, "artifacts", lambda store, settings: artifacts)
    wanted = settings()

    def of(role):
        lists = node_pillar.public(Node("demo", role, 1), wanted, Store(tmp_path, "demo"), "tree")["images"]
        return tuple({image["reference"].removesuffix(":1") for image in lists[part]} for part in ("first", "later"))

    return of


def test_a_master_has_all_that_kubeadm_would_pull_before_kubeadm_runs(images):
    first, later = images("master")
    assert first >= KUBEADMS
    assert first | later == ALL
    assert not first & later


def test_a_worker_joins_with_what_makes_it_ready(images):
    first, later = images("worker")
    assert first == {"flannel", "kube-proxy", "pause"}
    assert later == {"coredns", "cinder-csi-plugin"}
