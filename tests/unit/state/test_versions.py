"""Which version a node is made from: what it runs, until it is its turn."""

import pytest

from managed_k8s import cluster as live
from managed_k8s.artifacts import mirror
from managed_k8s.config.settings import Settings
from managed_k8s.minions import pillar as node_pillar
from managed_k8s.model.rollout import Versions, is_older, number
from managed_k8s.model.steps import KUBELET
from managed_k8s.names import GATEWAY, MASTER, ROLES, WORKER, Node
from managed_k8s.state import versions
from managed_k8s.state.rollout import Record
from managed_k8s.state.store import Store
from tests.support.settings import settings

OLD, NEW = "1.36.3", "1.37.2"
RUNS = Versions(OLD, {"demo-master-1": OLD}, {"demo-master-1": OLD, "demo-worker-1": OLD})


def written(version, **artifacts) -> Settings:
    return settings(artifacts=artifacts, kubernetes={"version": version})


@pytest.fixture
def store(tmp_path, monkeypatch):
    def artifacts(store, wanted):
        version = wanted.kubernetes.version
        image = {"archive": "images/pause.tar", "name": "pause", "tag": version, "digest": version}
        names = ("bin/kubeadm", "bin/kubelet", "cni/flannel", "images/pause.tar")
        return {
            "base": f"http://mirror.example/kubernetes/{version}",
            "sums": {name: f"{name} of {version}" for name in names},
            "versions": {"images": [image]},
        }

    monkeypatch.setattr(mirror, "artifacts", artifacts)
    return Store(tmp_path, "demo")


def pillar(store, name, version=OLD):
    role, number = name.split("-")
    wanted = versions.wanted(written(version), store)
    return node_pillar.public(Node("demo", role, int(number)), wanted, store, "tree")


def version_of(store, name, version=OLD):
    return pillar(store, name, version)["settings"]["kubernetes"]["version"]


def test_versions_are_compared_as_numbers():
    assert is_older("1.9.10", "1.36.3")
    assert not is_older("1.36.3", "1.36.3")
    assert is_older("1.36.3", "1.36.12")
    assert number("1.37.2+build") == number("1.37.2-rc.1") == (1, 37, 2)


def test_a_cluster_begins_with_the_version_of_the_settings(store):
    assert version_of(store, "worker-1", NEW) == NEW


@pytest.mark.parametrize("name", [f"{role}-1" for role in ROLES])
def test_another_version_in_the_settings_changes_no_node(store, name):
    versions.remember(store, RUNS)
    before = pillar(store, name)
    assert pillar(store, name, NEW) == before
    assert version_of(store, name, NEW) == OLD


def test_how_nodes_are_maintained_changes_none(store):
    node, usual = Node("demo", "worker", 1), settings()
    other = settings(maintenance={"drain_seconds": 1})
    assert node_pillar.public(node, usual, store, "tree") == node_pillar.public(node, other, store, "tree")


@pytest.mark.parametrize("key", ["api_allowed_cidrs", "ssh_allowed_cidrs"])
def test_who_may_reach_the_cluster_changes_none(store, key):
    node, usual = Node("demo", "gateway", 1), settings()
    other = settings(openstack={key: ["192.0.2.0/24"]})
    assert node_pillar.public(node, usual, store, "tree") == node_pillar.public(node, other, store, "tree")


def test_an_api_that_is_about_to_be_replaced_says_nothing(store):
    versions.remember(store, Versions(NEW, {"demo-master-1": NEW}, {"demo-master-1": NEW}))
    versions.went_back(store, OLD)
    store.write("restore.json", {"pausing": True})
    versions.remember(store, Versions(NEW, {"demo-master-1": NEW}, {"demo-master-1": NEW}))
    assert version_of(store, "master-1") == OLD
    store.write("restore.json", {"pausing": False})
    versions.remember(store, RUNS)
    assert version_of(store, "worker-1") == OLD


def test_a_control_plane_that_nobody_could_ask_yet_keeps_its_version(store):
    versions.begin(store, OLD)
    assert {version_of(store, f"{role}-9", NEW) for role in ROLES} == {OLD}


def test_an_upgrade_brings_what_is_needed_and_changes_nothing_that_runs(store):
    versions.remember(store, RUNS)
    Record(store).ask(NEW, OLD, "etcd-1", OLD)
    for name in ("master-1", "worker-1"):
        found = pillar(store, name)
        assert found["settings"]["kubernetes"]["version"] == OLD
        assert found["artifacts"]["base"].endswith(OLD)
        assert found["upcoming"] == {
            "base": f"http://mirror.example/kubernetes/{NEW}",
            "kubeadm": {"bin/kubeadm": f"bin/kubeadm of {NEW}"},
            "images": [{"archive": "images/pause.tar", "reference": f"pause:{NEW}", "digest": NEW}],
            "sums": {"images/pause.tar": f"images/pause.tar of {NEW}"},
        }
    assert "upcoming" not in pillar(store, "gateway-1")


def test_a_node_is_made_from_the_new_version_when_it_is_its_turn(store):
    versions.remember(store, RUNS)
    record = Record(store)
    record.ask(NEW, OLD, "etcd-1", OLD)
    record.begin("demo-worker-1", KUBELET)
    assert version_of(store, "worker-1") == OLD, "its pods are still to leave"
    record.take_turn("demo-worker-1")
    assert version_of(store, "worker-1") == NEW
    assert pillar(store, "worker-1")["upcoming"] is None
    assert version_of(store, "master-1") == OLD
    record.end("demo-worker-1", NEW)
    assert record.begun() == {}
    assert version_of(store, "worker-1") == NEW, "though nobody asked the API since then"


def test_who_joins_in_the_middle_of_an_upgrade(store):
    """kubeadm joins a master by its ConfigMap; no kubelet is newer than an API server."""
    control_planes = {"demo-master-1": NEW, "demo-master-2": OLD}
    versions.remember(store, Versions(NEW, control_planes, {"demo-master-1": OLD}))
    assert version_of(store, "master-3") == NEW
    assert version_of(store, "worker-7") == OLD
    assert versions.of_addons(written(OLD), store).kubernetes.version == OLD
    versions.remember(store, Versions(NEW, dict.fromkeys(control_planes, NEW), {"demo-master-1": OLD}))
    assert version_of(store, "worker-7") == NEW
    assert versions.of_addons(written(OLD), store).kubernetes.version == NEW


def test_what_was_not_told_as_a_whole_is_not_kept(store):
    versions.remember(store, RUNS)
    versions.remember(store, Versions("", {"demo-master-1": NEW}, {"demo-worker-1": NEW}))
    versions.remember(store, Versions(NEW, {}, {"demo-worker-1": NEW}))
    assert version_of(store, "worker-1") == OLD


def test_a_version_that_cannot_be_installed_is_not_looked_for(store):
    versions.remember(store, Versions(OLD, {"demo-master-1": OLD}, {"demo-worker-1": "1.36.4-custom"}))
    assert version_of(store, "worker-1") == OLD


def test_a_pin_is_of_one_version(store):
    pinned = written(NEW, sha256="0" * 64)
    assert versions.at(pinned, NEW) is pinned
    assert versions.at(pinned, OLD).artifacts.sha256 is None


def test_after_a_restore_the_version_of_the_backup_counts(store):
    versions.remember(store, Versions(NEW, {"demo-master-1": NEW}, {"demo-worker-1": NEW}))
    Record(store).ask(NEW, OLD, "etcd-1", OLD)
    Record(store).begin("demo-worker-1", KUBELET)
    versions.went_back(store, OLD)
    assert {version_of(store, f"{role}-1", NEW) for role in (GATEWAY, MASTER, WORKER)} == {OLD}
    assert Record(store).upgrade() == Record(store).begun() == {}


def test_what_brings_a_cluster_back_goes_on_with_the_version_of_the_backup(store, monkeypatch):
    monkeypatch.setattr(live.immutable_settings, "checked", lambda opts, name: written(OLD))
    monkeypatch.setattr(live.Store, "of", lambda opts, name: store)
    versions.remember(store, Versions(NEW, {"demo-master-1": NEW}, {"demo-master-1": NEW, "demo-worker-1": NEW}))
    cluster = live.Cluster({}, "demo")
    assert cluster.settings.kubernetes.version == NEW
    versions.went_back(store, OLD)
    assert cluster.anew().settings.kubernetes.version == OLD
