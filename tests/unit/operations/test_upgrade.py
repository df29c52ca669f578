"""What an operator asks for, and what speaks against it."""

from types import SimpleNamespace
from typing import Any

import pytest

from managed_k8s.artifacts import mirror
from managed_k8s.backup.record import Record as Backup
from managed_k8s.errors import RequestError
from managed_k8s.minions.jobs import Answer
from managed_k8s.model.cluster import Facts, Snapshot
from managed_k8s.operations import nodes
from managed_k8s.operations import upgrade as upgrading
from managed_k8s.state.rollout import Record
from managed_k8s.state.store import Store
from tests.support.clusters import change
from tests.support.rollouts import DEMO, NEW, OLD, rolling, running
from tests.support.settings import settings

BACKUP = Backup("etcd-1", 0.0, "demo-master-2", "upgrade", OLD, "3.6.8", "c", 1, 1, 1, 1, 1, "s", "c")


class Backups:
    def __init__(self):
        self.taken, self.problem = [], ""

    def take(self, reason):
        if self.problem:
            raise OSError(self.problem)
        self.taken.append(reason)
        return BACKUP

    def find(self, name):
        assert name == BACKUP.name
        return BACKUP


@pytest.fixture
def world(tmp_path, monkeypatch) -> Any:
    """A cluster that is well, and what is asked of it."""
    made = SimpleNamespace(
        name="demo", opts={}, written=settings(kubernetes={"version": OLD}),
        store=Store(tmp_path, "demo"), backups=Backups(), nodes=DEMO.nodes,
        observed=running(), woken=[], answers=Answer({"free": 10 << 30, "etcd": 0, "deprecated": []}, ok=True),
        offered={"base": "http://m", "sums": {}, "versions": {}},
    )  # fmt: skip
    made.store.path("x")
    made.observer = lambda: SimpleNamespace(look=lambda: Snapshot(DEMO, made.observed))
    for module in (upgrading, nodes):
        monkeypatch.setattr(module, "Cluster", lambda opts, name: made)
        monkeypatch.setattr(module, "choose", lambda opts, cluster: cluster or "demo")
        monkeypatch.setattr(module, "enqueue", lambda opts, name, reason: made.woken.append(reason))
    jobs = SimpleNamespace(ask=lambda names, *_, **__: dict.fromkeys(names, made.answers))
    monkeypatch.setattr(upgrading, "SaltJobs", lambda opts: jobs)
    monkeypatch.setattr(mirror, "artifacts", lambda store, wanted: made.offered)
    monkeypatch.setattr(mirror, "lacking", lambda found: [])
    monkeypatch.setattr(mirror, "missing", lambda found: [])
    monkeypatch.setattr(upgrading, "History", lambda store, opts: SimpleNamespace(add=lambda *_, **__: None))
    return made


def upgrade(version=NEW, test=False):
    return upgrading.upgrade({}, None, version, test, lambda words: None)


def test_an_upgrade_begins_with_a_backup(world):
    data = upgrade()
    assert world.backups.taken == ["before the upgrade to 1.37.2"]
    assert (data["from"], data["to"], data["backup"]) == (OLD, NEW, "etcd-1")
    kept = Record(world.store).upgrade()
    assert (kept["version"], kept["before"], kept["backup"]) == (NEW, OLD, "etcd-1")
    assert world.woken == ["upgrade to 1.37.2"]


def test_without_a_backup_nothing_begins(world):
    world.backups.problem = "the repository is away"
    with pytest.raises(OSError, match="away"):
        upgrade()
    assert Record(world.store).upgrade() == {}
    assert world.woken == []


def test_trying_it_changes_nothing(world):
    assert upgrade(test=True)["begun"] is False
    assert world.backups.taken == world.woken == []
    assert Record(world.store).upgrade() == {}


def test_the_version_of_the_settings_is_meant_when_none_is_named(world):
    with pytest.raises(RequestError, match=r"demo runs 1\.36\.3 already"):
        upgrade(version=None)
    world.written = settings(kubernetes={"version": NEW})
    world.observed = rolling(world.observed, notes=("the file names another version",))
    assert upgrade(version=None)["to"] == NEW


@pytest.mark.parametrize("version", ["newest", "1", "0.9", "v1.37.2", ""])
def test_what_is_no_version_is_one_message(world, version):
    with pytest.raises(RequestError, match=r"is no version; write it like 1\.37\.2"):
        upgrade(version=version)


def test_all_that_speaks_against_it_is_one_message(world, monkeypatch):
    world.observed = change(world.observed, etcd=False, ready={**world.observed.ready, "demo-worker-2": False})
    world.answers = Answer({"free": 0, "etcd": 0, "deprecated": []}, ok=True)
    monkeypatch.setattr(mirror, "missing", lambda found: ["images/etcd.tar"])
    with pytest.raises(RequestError) as refused:
        upgrade()
    text = str(refused.value)
    for words in ("demo-worker-2: the node is not Ready", "etcd is not whole", "of disk free", "lacks images/etcd.tar"):
        assert words in text
    assert world.backups.taken == []


def test_a_reboot_of_a_server_that_left_the_map_is_not_waited_for(world):
    world.observed = rolling(world.observed, maintenance={"demo-worker-9": "reboot"})
    assert upgrade(test=True)["to"] == NEW


def test_one_that_is_under_way_goes_on_without_another_backup(world):
    upgrade()
    Record(world.store).halt(True)
    world.observed = rolling(world.observed, target=NEW)
    world.observed = change(world.observed, ready={**world.observed.ready, "demo-worker-2": False})
    assert upgrade()["begun"] is True
    assert len(world.backups.taken) == 1
    assert Record(world.store).upgrade()["halted"] is False


def test_the_way_back_is_named_and_the_upgrade_stops(world):
    with pytest.raises(RequestError, match="never upgraded here"):
        upgrading.rollback({}, None)
    upgrade()
    data = upgrading.rollback({}, None)
    assert (data["to"], data["backup"]) == (OLD, "etcd-1")
    assert Record(world.store).upgrade()["halted"] is True


def test_all_servers_or_one_are_rebooted(world):
    assert len(nodes.reboot({}, None, None, packages=True)["servers"]) == len(DEMO.nodes)
    kept = Record(world.store).maintenance()
    assert kept["demo-worker-1"] == {"boot": "before", "packages": True}
    assert nodes.reboot({}, None, "demo-worker-1", packages=False)["servers"] == ["demo-worker-1"]


def test_what_speaks_against_a_reboot(world):
    world.observed = rolling(change(world.observed, ready=None), target=NEW)
    silent = {"demo-master-1": Facts(boot="before")}
    world.observed = change(world.observed, minions=silent)
    with pytest.raises(RequestError) as refused:
        nodes.reboot({}, None, None, packages=False)
    for words in (
        "an upgrade to 1.37.2 is under way",
        "API cannot be asked",
        "demo-worker-1: its minion does not say",
    ):
        assert words in str(refused.value)
    with pytest.raises(RequestError, match="demo-worker-77 has no server"):
        nodes.reboot({}, None, "demo-worker-77", packages=False)
    with pytest.raises(RequestError, match="is no node's name"):
        nodes.reboot({}, None, "worker", packages=False)
