"""What a master says of etcd's members, and takes out of etcd, from what etcdctl prints."""

import base64
import json

import pytest
from salt.exceptions import CommandExecutionError

from tests.support.minion_modules import load_module

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
def module(monkeypatch):
    found = load_module("managed_k8s_etcd", {"managed_k8s": {"name": "demo-master-1"}})
    health = {"https://10.30.0.21:2379": True, "https://10.30.0.22:2379": True}
    asked, keys = [], {}

    def etcdctl(*words, check=True):
        asked.append(words)
        if words[:2] == ("member", "list"):
            return json.dumps(LISTED)
        if words[0] == "get":
            value = keys.get(words[1])
            return json.dumps({"kvs": [{"value": base64.b64encode(value).decode()}]} if value else {})
        if words[0] == "del":
            for key in [key for key in keys if key.startswith(words[-1])]:
                del keys[key]
        return json.dumps([{"endpoint": url, "health": ok} for url, ok in health.items()])

    monkeypatch.setattr(found.common, "etcdctl", etcdctl)
    found.health, found.asked, found.keys = health, asked, keys
    return found


def test_members_are_listed_with_their_health(module):
    module.health["https://10.30.0.22:2379"] = False
    assert module.members() == [
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


def test_a_member_is_removed_once(module):
    assert module.remove_member(2) == {"changed": True}
    assert module.asked[-1] == ("member", "remove", "2")
    assert module.remove_member("77") == {"changed": False}


def test_the_quorum_is_asked_for_at_the_last_moment(module):
    module.health["https://10.30.0.21:2379"] = False
    with pytest.raises(CommandExecutionError, match="without member 2 0 of 1 members are healthy"):
        module.remove_member("2")
    assert ("member", "remove", "2") not in module.asked


@pytest.mark.parametrize(
    ("node", "stays"),
    [(b"k8s openstack:///id-1 x", True), (b"k8s openstack:///id-0 x", False), (b"k8s", True)],
)
def test_an_earlier_server_of_this_name_is_forgotten_and_who_led(module, node, stays):
    forgot = []
    module.__salt__["managed_k8s_kubeadm.forget_network"] = lambda: forgot.append("network")
    mine, other = "/registry/minions/demo-master-1", "/registry/minions/demo-worker-1"
    module.keys |= {mine: node, other: b"openstack:///id-7", "/registry/leases/kube-system/kube-scheduler": b"x",
                    "/registry/masterleases/10.30.0.22": b"x", "/registry/leases/kube-node-lease/w": b"x"}  # fmt: skip
    module.forget_others("id-1")
    assert set(module.keys) == {other, "/registry/leases/kube-node-lease/w", *([mine] if stays else [])}
    # Its Node is made anew, with another range of pods.
    assert forgot == ([] if stays else ["network"])
