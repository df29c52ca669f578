"""How far kubeadm came, how a node joins, and what it forgets."""

import pytest
import yaml

from tests.support.minion_modules import load_module

SECRETS = {"token": "abcdef.0123456789abcdef", "certificate_key": "0" * 64, "ca": "Q0E="}


@pytest.fixture
def module(monkeypatch, tmp_path):
    found = load_module("managed_k8s_kubeadm", {})
    kubernetes = tmp_path / "kubernetes"
    for name, path in {
        "KUBERNETES": kubernetes, "MANIFESTS": kubernetes / "manifests", "MANAGED": tmp_path / "managed",
        "VOLATILE": tmp_path / "run", "ETCD_DATA": tmp_path / "etcd", "KUBELET": tmp_path / "kubelet",
    }.items():  # fmt: skip
        path.mkdir()
        monkeypatch.setattr(found.common, name, path)
    monkeypatch.setattr(found, "_CNI", tmp_path / "cni")
    monkeypatch.setattr(found, "_FLANNEL", tmp_path / "subnet.env")
    return found


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ([], "none"),
        (["kubernetes/kubelet.conf"], "partial"),
        (["kubernetes/manifests/kube-apiserver.yaml"], "partial"),
        (["managed/joined"], "none"),
        (["kubernetes/kubelet.conf", "managed/joined"], "joined"),
        (["kubernetes/kubelet.conf", "kubernetes/manifests/kube-apiserver.yaml"], "partial"),
        (["kubernetes/kubelet.conf", "kubernetes/manifests/kube-apiserver.yaml", "managed/joined"], "joined"),
        (["managed/initialised"], "initialised"),
    ],
)
def test_it_is_known_how_far_kubeadm_came(module, tmp_path, files, state):
    for name in files:
        (tmp_path / name).touch()
    assert module.state() == state


def test_data_of_etcd_alone_is_a_node_half_made(module, tmp_path):
    (tmp_path / "etcd" / "member").mkdir()
    assert module.state() == "partial"


def pillar(role):
    join = {"kind": "JoinConfiguration", "nodeRegistration": {"name": f"demo-{role}-1"}}
    return {"role": role, "virtual_ip": "10.30.0.5", "kubeadm": {"join": join}, "secrets": {"join": SECRETS}}


@pytest.mark.parametrize(("role", "control_plane"), [("master", True), ("worker", False)])
def test_a_join_names_the_authority_and_keeps_to_its_role(module, monkeypatch, role, control_plane):
    ran = []

    def kubeadm(*words):
        folder = module.common.VOLATILE
        assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
        ran.append((words, *(yaml.safe_load((folder / name).read_text()) for name in ("join.yaml", "discovery.conf"))))

    monkeypatch.setattr(module.common, "kubeadm", kubeadm)
    monkeypatch.setattr(module, "_fresh_pillar", lambda: pillar(role))
    assert module.join() == {"changed": True}
    ((words, document, discovery),) = ran
    folder = module.common.VOLATILE
    assert words == ("join", "--config", str(folder / "join.yaml"))
    assert document["nodeRegistration"] == {"name": f"demo-{role}-1"}
    assert ("controlPlane" in document) is control_plane
    assert document["discovery"]["file"] == {"kubeConfigPath": str(folder / "discovery.conf")}
    assert discovery["clusters"][0]["cluster"] == {
        "server": "https://10.30.0.5:6443", "certificate-authority-data": "Q0E=",
    }  # fmt: skip
    assert list(folder.iterdir()) == []
    (module.common.KUBERNETES / "kubelet.conf").touch()
    assert module.join() == {"changed": False}


def test_a_node_that_joins_anew_knows_no_range_of_pods_any_more(module, monkeypatch):
    ran = []
    monkeypatch.setattr(module.common, "run", lambda *words, **options: ran.append(words))
    (module._CNI / "networks").mkdir(parents=True)
    module._FLANNEL.write_text("FLANNEL_SUBNET=10.244.6.1/24")
    assert module.forget_network()
    assert not module._CNI.exists()
    assert not module._FLANNEL.exists()
    assert [words[-1] for words in ran] == ["cni0", "flannel.1"]
