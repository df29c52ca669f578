"""A look at a cluster: who is asked, and what is made of the answers."""

import shutil
from types import SimpleNamespace
from typing import Any

import pytest

from managed_k8s import names
from managed_k8s.minions.jobs import Answer
from managed_k8s.model import kubernetes
from managed_k8s.observe import observer as observing
from managed_k8s.state import queue
from managed_k8s.state.change_requests import ASKED, COMPLETE, Intent
from managed_k8s.state.store import Store
from tests.support.settings import settings

MASTERS = [f"demo-master-{n}" for n in (1, 2, 3)]


class Parts:
    """Cloud, minions and API in one."""

    def __init__(self):
        self.listed: dict[str, Any] = {
            name: {"id": name, "role": "master", "status": "ACTIVE", "address": f"10.0.0.{n}", "pending": False}
            for n, name in enumerate(MASTERS, 1)
        }
        self.asked: list[tuple[list[str], str]] = []
        self.silent: set[str] = set()
        self.kubeadm = dict.fromkeys(MASTERS, "joined")
        self.etcd = True
        self.members = {1: {}}
        self.nodes = {
            name: {"ready": True, "role": "master", "provider_id": None, "cordoned_by": None, "drained": False}
            for name in MASTERS
        }

    def servers(self):
        return self.listed

    def is_begun(self):
        return True

    def public_address(self):
        return None

    def is_busy(self, name):
        return False

    def accepted(self, cluster):
        return MASTERS

    def ask(self, minions, function, *args, limit, expected=()):
        self.asked.append((list(minions), function))
        if function == observing.MEMBERS:
            found: Any = [
                {"id": str(n), "name": MASTERS[n - 1], "addresses": [f"10.0.0.{n}"], "healthy": True, "voter": True}
                | but
                for n, but in self.members.items()
            ]
            return {name: Answer(found, ok=True) for name in minions if name not in self.silent}
        facts = {name: {"revision": "r", "kubeadm": self.kubeadm[name], "etcd_data": True} for name in minions}
        return {name: Answer(facts[name], ok=True) for name in minions if name not in self.silent}

    def answers(self):
        return True

    def full(self, names, servers):
        return {}

    def look(self):
        ready = {name: node["ready"] for name, node in self.nodes.items()}
        return kubernetes.KubernetesState(ready, etcd=self.etcd, addons=True, nodes=self.nodes)


@pytest.fixture
def parts():
    return Parts()


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "demo")


@pytest.fixture
def observer(store, parts, monkeypatch):
    monkeypatch.setattr(observing.Observer, "_desired", lambda self, servers: SimpleNamespace(smoke=None))
    nodes = [node for name in MASTERS if (node := names.parse(name))]
    return observing.Observer(store, settings(), nodes, None, parts, parts, parts, parts)


def asked(parts, function):
    return [minions for minions, name in parts.asked if name == function]


def test_etcd_is_asked_only_when_a_master_comes_or_goes(observer, parts, store):
    assert observer.look().observed.fleet.members is None
    assert asked(parts, observing.MEMBERS) == []
    Intent(store).condemn({"demo-master-2": "demo-master-2"}, "ill")
    (member,) = observer.look().observed.fleet.members
    assert (member.node, member.lost) == ("demo-master-1", False)
    assert asked(parts, observing.MEMBERS) == [["demo-master-1"]]


def test_another_master_is_asked_when_one_is_silent_or_is_to_go(observer, parts, store):
    observer.look()
    Intent(store).condemn({"demo-master-1": "demo-master-1"}, "ill")
    parts.silent = {"demo-master-2"}
    assert observer.look().observed.fleet.members
    assert asked(parts, observing.MEMBERS) == [["demo-master-2"], ["demo-master-3"]]


@pytest.fixture
def joining(parts):
    """Two masters that joined, a third one that is to, and an API that has not heard of the second's etcd yet."""
    parts.kubeadm["demo-master-3"], parts.etcd = "none", False
    del parts.nodes["demo-master-3"]
    parts.members = {1: {}, 2: {}}
    return parts


def test_a_join_waits_for_what_etcd_says_of_itself(observer, joining):
    assert observer.look().observed.etcd
    joining.members[2]["healthy"] = False
    assert not observer.look().observed.etcd
    joining.members[2] = {"voter": False}
    assert not observer.look().observed.etcd
    joining.members = {1: {}}
    assert not observer.look().observed.etcd
    # Nobody could be asked, and no master is a node yet.
    joining.members, joining.nodes = {}, {}
    assert not observer.look().observed.etcd


def test_only_a_join_asks_etcd_before_the_api_knows(observer, joining):
    joining.kubeadm["demo-master-3"] = "partial"
    assert not observer.look().observed.etcd
    joining.kubeadm["demo-master-3"] = "joined"
    observer.forget(MASTERS)
    assert not observer.look().observed.etcd
    assert asked(joining, observing.MEMBERS) == []


def test_a_server_that_was_complete_is_remembered(observer, parts, store):
    parts.listed["demo-master-3"]["pending"] = True
    Intent(store).ask(["demo-master-3"])
    observer.look()
    assert Intent(store).servers() == {"demo-master-1": COMPLETE, "demo-master-2": COMPLETE, "demo-master-3": ASKED}


def test_a_minion_without_a_server_is_asked_again_each_time(observer, parts):
    observer.look()
    del parts.listed["demo-master-2"]
    assert observer.look().observed.fleet.contradicted == {"demo-master-2"}
    assert observer.look().observed.fleet.contradicted == {"demo-master-2"}
    parts.silent, parts.asked = {"demo-master-2"}, []
    found = observer.look().observed.fleet
    assert asked(parts, observing.FACTS) == [["demo-master-2"]]
    assert (found.contradicted, found.lost) == (frozenset(), {"demo-master-2"})


def test_a_look_brings_nothing_of_a_destroyed_cluster_back(observer, parts, store):
    observer.look()
    assert store.read("inventory.json")
    # Its servers go first, its folder goes last.
    parts.listed.clear()
    parts.silent, parts.nodes = set(MASTERS), {}
    shutil.rmtree(store.folder)
    observer.look()
    assert not queue.is_held(store)
    assert not store.folder.exists()
