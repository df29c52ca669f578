"""What kubeadm is told, from a cluster's settings."""

import pytest
import yaml

from managed_k8s import names
from managed_k8s.config import settings
from managed_k8s.minions import kubeadm_config

PUBLIC = "203.0.113.9"


def made(role="master", public=PUBLIC, **kubernetes):
    content = {
        "openstack": {"cloud": "c", "external_network": "e", "virtual_ip": "10.30.0.5"},
        "artifacts": {"url": "http://mirror.example"},
        "kubernetes": kubernetes,
    }
    node = names.parse(f"demo-{role}-1")
    assert node
    return kubeadm_config.of(node, settings.complete({"managed_k8s": content}, "test"), public)


def documents(text):
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def arguments(component):
    return {entry["name"]: entry["value"] for entry in component["extraArgs"]}


def test_kubeadm_is_told_of_every_hardening():
    found = documents(made()["init"])
    cluster = found["ClusterConfiguration"]
    assert cluster["clusterName"] == "demo"
    assert cluster["controlPlaneEndpoint"] == "10.30.0.5:6443"
    assert cluster["apiServer"]["certSANs"] == ["10.30.0.5", "203.0.113.9"]
    apiserver = arguments(cluster["apiServer"])
    files = {key for key, value in apiserver.items() if value.startswith("/etc/kubernetes/managed-k8s/")}
    assert files == {
        "admission-control-config-file", "audit-policy-file", "authentication-config", "encryption-provider-config",
    }  # fmt: skip
    # kube-apiserver refuses both at once.
    assert "anonymous-auth" not in apiserver
    assert found["KubeletConfiguration"]["serverTLSBootstrap"] is True
    kubelet = {
        entry["name"]: entry["value"] for entry in found["InitConfiguration"]["nodeRegistration"]["kubeletExtraArgs"]
    }
    assert kubelet == {"cloud-provider": "external"}
    # Without a limit of its own kubeadm's first token would be good for any join within a day.
    assert found["InitConfiguration"]["bootstrapTokens"] == [{"ttl": "1m0s"}]


def test_settings_reach_the_kubelet():
    found = documents(made(kubelet={"failSwapOn": False, "maxPods": 50})["init"])
    assert found["KubeletConfiguration"]["maxPods"] == 50


def test_a_cluster_without_a_floating_ip_has_one_name_less():
    found = documents(made(public=None)["init"])
    assert found["ClusterConfiguration"]["apiServer"]["certSANs"] == ["10.30.0.5"]


@pytest.mark.parametrize(("role", "parts"), [("master", {"join", "init"}), ("worker", {"join"})])
def test_a_node_is_told_no_more_than_it_needs_and_nothing_secret(role, parts):
    found = made(role)
    assert found.keys() == parts
    assert found["join"].keys() == {"apiVersion", "kind", "nodeRegistration"}
    assert found["join"]["nodeRegistration"]["name"] == f"demo-{role}-1"
    assert not [word for word in ("token:", "certificateKey", "discovery") if word in str(found)]
