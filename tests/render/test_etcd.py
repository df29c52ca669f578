"""What a master says of etcd's members, from what etcdctl prints."""

import json
from types import SimpleNamespace

import pytest
from salt.exceptions import CommandExecutionError

LISTED = {
    "members": [
        {"ID": 10276657743932975437, "name": "demo-master-1", "peerURLs": ["https://10.30.0.21:2380"],
         "clientURLs": ["https://10.30.0.21:2379"]},
        {"ID": 2, "name": "demo-master-2", "peerURLs": ["https://10.30.0.22:2380"],
         "clientURLs": ["https://10.30.0.22:2379"]},
        {"ID": 3, "peerURLs": ["https://10.30.0.23:2380"], "isLearner": True},
    ]
}  # fmt: skip


@pytest.fixture
def node(of, monkeypatch):
    found = of("master").node
    health = {"https://10.30.0.21:2379": True, "https://10.30.0.22:2379": True}
    asked = []

    def etcdctl(*words, check=True):
        asked.append(words)
        if words[:2] == ("member", "list"):
            return json.dumps(LISTED)
        return json.dumps([{"endpoint": url, "health": ok} for url, ok in health.items()])

    monkeypatch.setattr(found, "_etcdctl", etcdctl)
    found.health, found.asked = health, asked
    return found


def test_members_are_listed_with_their_health(node):
    node.health["https://10.30.0.22:2379"] = False
    assert node.etcd_members() == [
        {
            "id": "8e9e05c52164694d",
            "name": "demo-master-1",
            "addresses": ["10.30.0.21"],
            "healthy": True,
            "voter": True,
        },
        {"id": "2", "name": "demo-master-2", "addresses": ["10.30.0.22"], "healthy": False, "voter": True},
        {"id": "3", "name": "", "addresses": ["10.30.0.23"], "healthy": False, "voter": False},
    ]


def test_a_member_is_removed_once(node):
    assert node.remove_etcd_member(2) == {"changed": True}
    assert node.asked[-1] == ("member", "remove", "2")
    assert node.remove_etcd_member("77") == {"changed": False}


def test_the_quorum_is_asked_for_at_the_last_moment(node):
    node.health["https://10.30.0.21:2379"] = False
    with pytest.raises(CommandExecutionError, match="without member 2 0 of 1 members are healthy"):
        node.remove_etcd_member("2")
    assert ("member", "remove", "2") not in node.asked


def test_a_master_stops_serving_and_begins_again(node, tmp_path, monkeypatch):
    manifests, stopped = tmp_path / "manifests", tmp_path / "stopped"
    manifests.mkdir()
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        (manifests / f"{name}.yaml").write_text(name)
    monkeypatch.setattr(node, "_KUBERNETES", tmp_path)
    monkeypatch.setattr(node, "_STOPPED", stopped)
    monkeypatch.setattr(node, "_listens", lambda port: False)
    assert len(node.stop_control_plane()["changed"]) == 3
    assert [file.name for file in manifests.iterdir()] == ["etcd.yaml"]
    assert node.stop_control_plane() == {"changed": []}
    assert len(node.start_control_plane()["changed"]) == 3
    assert len(list(manifests.iterdir())) == 4


@pytest.mark.parametrize(("free", "found"), [(6, []), (4, ["disk"])])
def test_a_disk_ails_before_it_is_full(node, tmp_path, monkeypatch, free, found):
    monkeypatch.setattr(node, "_MANAGED", tmp_path)
    monkeypatch.setattr(node, "_INITIALISED", tmp_path / "initialised")
    (tmp_path / "initialised").touch()
    monkeypatch.setattr(node, "_dead", lambda services: [])
    monkeypatch.setattr(node, "_listens", lambda port: True)
    disks = {"/": SimpleNamespace(total=100, free=50), "/var/lib": SimpleNamespace(total=100, free=free)}
    monkeypatch.setattr(node.shutil, "disk_usage", disks.get)
    assert node.ailments() == found
    assert node._disk_free() == free / 100


def test_an_etcd_that_cannot_open_its_data_ails_though_it_takes_connections_at_times(node, tmp_path, monkeypatch):
    monkeypatch.setattr(node, "_MANAGED", tmp_path)
    monkeypatch.setattr(node, "_INITIALISED", tmp_path / "initialised")
    (tmp_path / "initialised").touch()
    monkeypatch.setattr(node, "_dead", lambda services: [])
    monkeypatch.setattr(node, "_FREE", 0)
    for ports, found in (((2379,), ["etcd"]), ((2379, 2381), [])):
        monkeypatch.setattr(node, "_listens", ports.__contains__)
        assert node.ailments() == found
