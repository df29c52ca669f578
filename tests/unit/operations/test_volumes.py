"""When backups of volumes are made by themselves, and what monitoring is told."""

from types import SimpleNamespace

import pytest

from managed_k8s.config.sections import VolumeBackup
from managed_k8s.operations import backup as backup_verbs
from managed_k8s.operations import due, volumes, worker
from managed_k8s.state.store import Store
from managed_k8s.volumes import service

NOW = 1795527000


class Volumes:
    """A cluster's volumes: only whether they are due, and what was asked."""

    def __init__(self, store, due=True, enabled=True):
        self.store, self.due, self.asked = store, due, []
        self.settings = VolumeBackup(enabled=enabled)

    def is_due(self, now):
        return self.due

    def take(self, reason, since=None):
        self.asked.append((reason, since))

    def state(self):
        return {"problems": ["shop/data: there is no good backup"]}


@pytest.fixture
def started(monkeypatch, tmp_path):
    """The clusters whose backups a sweep starts."""
    found = []
    monkeypatch.setattr(due.load, "clusters", lambda opts: ["demo"])
    monkeypatch.setattr(due.queue, "start", lambda opts, store, what: found.append((store.cluster, what)))
    return found


@pytest.fixture
def opts(tmp_path):
    return {"root_dir": str(tmp_path)}


@pytest.fixture
def store(opts):
    made = Store.of(opts, "demo")
    made.write("initialised.json", {"finished": True})
    made.write("smoke.json", {})
    return made


def use(monkeypatch, volumes, where=due):
    cluster = SimpleNamespace(volumes=volumes, name="demo", store=volumes.store)
    monkeypatch.setattr(where, "Cluster", lambda opts, name: cluster)
    return cluster


def test_a_sweep_starts_what_is_due(monkeypatch, opts, store, started):
    use(monkeypatch, Volumes(store))
    assert volumes.sweep(opts, NOW) == {"clusters": ["demo"]}
    assert started == [("demo", "volumes")]


@pytest.mark.parametrize("what", [{"due": False}, {"enabled": False}])
def test_a_sweep_leaves_what_is_not(monkeypatch, opts, store, started, what):
    use(monkeypatch, Volumes(store, **what))
    assert volumes.sweep(opts, NOW) == {"clusters": []}


def test_a_sweep_leaves_a_cluster_that_is_not_there_and_one_that_is_at_it(monkeypatch, opts, store, started):
    use(monkeypatch, Volumes(store))
    with service.lock(store):
        assert volumes.sweep(opts, NOW) == {"clusters": []}
    store.remove("initialised.json")
    assert volumes.sweep(opts, NOW) == {"clusters": []}


def test_the_process_makes_what_the_schedule_wants(monkeypatch, store):
    import salt.config

    volumes = Volumes(store)
    use(monkeypatch, volumes, worker)
    monkeypatch.setattr(salt.config, "master_config", lambda path: {})
    with service.lock(store):
        worker.main("volumes", "master", "demo")
    assert volumes.asked == []
    worker.main("volumes", "master", "demo")
    ((reason, since),) = volumes.asked
    assert (reason, since % 86400) == ("schedule", 3600)


def test_monitoring_hears_of_it(monkeypatch, store):
    cluster = use(monkeypatch, Volumes(store), backup_verbs)
    cluster.backups = SimpleNamespace(state=lambda: {"problems": []})
    monkeypatch.setattr(backup_verbs, "choose", lambda opts, name: name)
    store.write("state.json", {"ready": True})
    assert backup_verbs.check({}, "demo")["problems"] == ["shop/data: there is no good backup"]
