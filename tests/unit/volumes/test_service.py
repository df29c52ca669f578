"""Backups of volumes from making them to bringing them back, on a cluster and a Cinder in memory."""

from types import SimpleNamespace
from typing import Any

import pytest

from managed_k8s.config.sections import VolumeRetention
from managed_k8s.state import attempts
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from managed_k8s.volumes import cinder, service
from managed_k8s.volumes.cinder import RESTORE, SNAPSHOT
from managed_k8s.volumes.restore_plan import VolumeError
from managed_k8s.volumes.service import VolumeBackups
from tests.support import volumes as helpers

NOW = 1795527000


@pytest.fixture(autouse=True)
def clock(monkeypatch):
    """A clock that only sleeping and the test itself move."""
    made = SimpleNamespace(now=float(NOW))
    made.time = made.monotonic = lambda: made.now
    made.sleep = lambda seconds: setattr(made, "now", made.now + seconds)
    for module in (service, cinder, attempts):
        monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def storage():
    return helpers.Storage()


@pytest.fixture
def cluster(storage):
    return helpers.Kubernetes(storage, helpers.claim("data"), helpers.claim("logs"), helpers.claim("cache", labels={}))


@pytest.fixture
def volumes(tmp_path, storage, cluster) -> Any:
    return made(tmp_path, storage, cluster)


def made(folder, storage, cluster):
    store = Store(folder / "salt", "demo")
    return VolumeBackups(store, helpers.SETTINGS, helpers.cinder(storage), helpers.connected(cluster), History(store))


def paths(records):
    return sorted(one.claim.path for one in records)


def restore(volumes, claim=None, namespace=None, backup=None, into=None, into_namespace=None):
    return volumes.restore(volumes.plan(claim, namespace, backup, into, into_namespace), lambda words: None)


# Making


def test_every_labelled_claim_is_backed_up_and_nothing_else_stays(volumes, cluster, storage):
    taken = volumes.take("asked for")
    assert paths(taken) == ["shop/data", "shop/logs"] == paths(volumes.records())
    assert {one.id for one in taken} == set(storage.all_backups)
    assert cluster.there == {}
    assert volumes.state()["problems"] == []
    event = volumes.history.last(1)[0]
    assert (event["subject"], event["what"], event["volumes"]) == ("volumes", "made", ["shop/data", "shop/logs"])


def test_the_backups_are_known_without_the_cluster_and_the_salt_masters_state(volumes, storage, tmp_path):
    before = volumes.take("asked for")
    elsewhere = made(tmp_path / "elsewhere", storage, helpers.Kubernetes(storage))
    assert elsewhere.records() == sorted(before, key=lambda one: one.claim.path)


def test_no_claim_has_the_label(tmp_path, storage):
    volumes = made(tmp_path, storage, helpers.Kubernetes(storage, helpers.claim(labels={})))
    assert volumes.take("schedule") == []
    assert volumes.state()["problems"] == []


def test_one_that_cannot_be_made_is_said_and_the_others_stay(volumes, cluster, storage):
    cluster.broken["shop/logs"] = "error"
    with pytest.raises(VolumeError, match=r"shop/logs: Cinder could not make the backup: no space"):
        volumes.take("schedule")
    assert paths(volumes.records()) == ["shop/data"]
    assert cluster.there == {}
    problems = volumes.state()["problems"]
    assert any("the last backup of volumes failed" in problem for problem in problems)
    assert "shop/logs: there is no good backup" in problems
    del cluster.broken["shop/logs"]
    # What is made already is not made again; what failed is removed.
    assert paths(volumes.take("schedule", since=NOW)) == ["shop/logs"]
    assert paths(volumes.records()) == ["shop/data", "shop/logs"]
    assert len(storage.all_backups) == 2
    assert volumes.state()["problems"] == []


def test_a_snapshot_that_fails_gets_some_patience(volumes, cluster, clock):
    cluster.ill["shop/data"] = "the driver is not there"
    with pytest.raises(VolumeError, match="the driver is not there"):
        volumes.take("schedule")
    assert 60 < clock.now - NOW < 200


def test_one_that_never_ends_is_given_up(volumes, cluster, clock):
    cluster.broken["shop/data"] = "creating"
    with pytest.raises(VolumeError, match="timeout_minutes: its backup in Cinder is creating"):
        volumes.take("schedule")
    assert paths(volumes.records()) == ["shop/logs"]


def test_a_claim_without_a_volume_of_cinders_is_said(tmp_path, storage):
    odd = helpers.claim("odd", problem="its volume x is not Cinder's")
    volumes = made(tmp_path, storage, helpers.Kubernetes(storage, odd, helpers.claim()))
    with pytest.raises(VolumeError, match="shop/odd: its volume x is not Cinder's"):
        volumes.take("schedule")
    assert paths(volumes.records()) == ["shop/data"]


def test_what_the_quota_has_no_room_for_is_said_once_and_the_others_are_made(volumes, cluster, storage, clock):
    cluster.claims["shop/more"] = helpers.claim("more")
    storage.quota = 2
    with pytest.raises(VolumeError) as caught:
        volumes.take("schedule")
    assert str(caught.value).startswith("shop/more: the project's quota is 2 volume backups, with room for 2 of the 3 ")
    assert paths(volumes.records()) == ["shop/data", "shop/logs"]
    clock.now += 3600
    with pytest.raises(VolumeError) as caught:
        volumes.take("schedule")
    assert str(caught.value).startswith("shop/data, shop/logs, shop/more: the project's quota is 2")
    # Next time it is the turn of those that have waited longest.
    storage.quota = 4
    clock.now += 3600
    with pytest.raises(VolumeError, match="shop/logs: the project's"):
        volumes.take("schedule")
    assert paths(volumes.records()) == ["shop/data", "shop/data", "shop/logs", "shop/more"]


def test_a_quota_without_a_limit_is_none(volumes, storage):
    storage.quota = -1
    assert len(volumes.take("schedule")) == 2


def test_what_is_kept_by_default_of_one_claim_fits_the_usual_quota_beside_the_one_that_is_made():
    assert sum(VolumeRetention().model_dump().values()) < 10


def test_an_interrupted_run_is_no_backup_and_the_next_one_removes_what_it_left(volumes, cluster, storage, clock):
    cluster.interrupted = True
    with pytest.raises(KeyboardInterrupt):
        volumes.take("schedule")
    assert (len(storage.all_backups), len(cluster.there)) == (1, 1)
    assert volumes.records() == []
    assert any("interrupted" in problem for problem in volumes.state()["problems"])
    cluster.interrupted = False
    clock.now += 100
    volumes.take("schedule")
    assert (len(storage.all_backups), cluster.there) == (2, {})


def test_what_somebody_else_made_stays(volumes, cluster, storage):
    users = storage.add_backup(**{SNAPSHOT: "monday"})
    strangers = storage.add_backup(**{SNAPSHOT: "managed-k8s-backup-1", "cinder.csi.openstack.org/cluster": "other"})
    working = storage.add_backup("creating", **{SNAPSHOT: "managed-k8s-backup-2"})
    left = storage.add_backup("error", **{SNAPSHOT: "managed-k8s-backup-3"})
    volumes.take("schedule")
    assert {users, strangers, working} < set(storage.all_backups)
    assert left not in storage.all_backups


def test_retention_holds_for_each_claim(volumes, cluster, clock, storage):
    taken = []
    for _ in range(4):
        taken.append(volumes.take("schedule")[0].name)
        clock.now += 3600
    del cluster.claims["shop/logs"]
    volumes.take("schedule")
    names = {path: [one.name for one in volumes.records() if one.claim.path == path] for path in ("shop/logs",)}
    # The claim that is gone keeps its own.
    assert names["shop/logs"] == taken[:-3:-1]
    assert len(storage.all_backups) == 4


def test_a_missed_and_an_old_one_are_said(volumes, clock):
    volumes.take("schedule")
    clock.now += 3 * 86400
    problems = volumes.state()["problems"]
    assert any("was missed" in problem for problem in problems)
    assert any(problem.startswith("shop/data: the newest good backup") for problem in problems)
    assert volumes.is_due(clock.now)


# Restoring


def test_a_claim_that_is_gone_comes_back_under_its_name(volumes, cluster, storage):
    (data, _) = volumes.take("asked for")
    del cluster.claims["shop/data"]
    (done,) = restore(volumes, "data")
    volume = storage.all_volumes[done["volume"]]
    assert (volume.backup_id, volume.size, volume.volume_type) == (data.id, 1, "fast")
    assert volume.metadata[RESTORE] == f"done:{data.id}"
    assert volume.metadata["cinder.csi.openstack.org/cluster"] == "demo"
    found = cluster.claims["shop/data"]
    assert (found.handle, found.labels) == (volume.id, {"managed-k8s/backup": "true"})
    spec = cluster.volumes[volume.name]["spec"]
    assert spec["csi"] == {"driver": "cinder.csi.openstack.org", "volumeHandle": volume.id, "fsType": "ext4"}
    assert spec["claimRef"]["name"] == "data"
    assert spec["nodeAffinity"]["required"]["nodeSelectorTerms"][0]["matchExpressions"][0]["values"] == ["nova"]
    assert cluster.retained == []


def test_all_are_restored_into_another_namespace_of_a_new_cluster(volumes, storage, tmp_path):
    volumes.take("asked for")
    empty = helpers.Kubernetes(storage)
    elsewhere = made(tmp_path / "elsewhere", storage, empty)
    done = restore(elsewhere, into_namespace="again")
    assert [one["claim"] for one in done] == ["again/data", "again/logs"]
    assert empty.namespaces == {"shop", "again"}
    # Copies are not backed up.
    assert empty.labelled() == []


def test_a_claim_that_is_there_is_replaced_and_its_volume_stays(volumes, cluster):
    volumes.take("asked for")
    (planned,) = volumes.plan("data", None, None, None, None)
    assert "PersistentVolume pvc-shop-data, Cinder volume volume-shop-data" in str(planned)
    (done,) = restore(volumes, "data")
    assert (done["kept"], cluster.retained) == ("pvc-shop-data", ["pvc-shop-data"])
    assert cluster.claims["shop/data"].handle == done["volume"]


def test_a_claim_in_use_is_left_alone(volumes, cluster, storage):
    volumes.take("asked for")
    planned = volumes.plan("data", None, None, None, None)
    cluster.pods["shop/data"] = ["pod web-0"]
    with pytest.raises(VolumeError, match=r"shop/data is in use by pod web-0: scale down"):
        volumes.plan("data", None, None, None, None)
    # Also when the pod came after the plan.
    with pytest.raises(VolumeError, match="began to use it meanwhile"):
        volumes.restore(planned, lambda words: None)
    assert cluster.retained == []
    assert cluster.claims["shop/data"].handle == "volume-shop-data"


@pytest.mark.parametrize("there_before", [True, False])
def test_a_claim_that_came_after_the_plan_is_left_alone(volumes, cluster, there_before):
    volumes.take("asked for")
    if not there_before:
        del cluster.claims["shop/data"]
    planned = volumes.plan("data", None, None, None, None)
    cluster.claims["shop/data"] = helpers.claim("data", uid="another")
    with pytest.raises(VolumeError, match="was made meanwhile"):
        volumes.restore(planned, lambda words: None)
    assert cluster.retained == []


def test_nothing_is_touched_when_cinder_cannot_restore(volumes, cluster, storage):
    volumes.take("asked for")
    storage.volume_status = "error_restoring"
    with pytest.raises(VolumeError, match="shop/data: Cinder cannot restore"):
        restore(volumes, "data")
    assert cluster.retained == []
    assert storage.all_volumes == {}


def test_an_interrupted_restore_goes_on_with_the_volume_that_it_made(volumes, cluster, storage):
    volumes.take("asked for")
    cluster.interrupted = True
    with pytest.raises(VolumeError, match="interrupted"):
        restore(volumes, "data")
    assert "shop/data" not in cluster.claims
    cluster.interrupted = False
    (done,) = restore(volumes, "data")
    assert list(storage.all_volumes) == [done["volume"]]
    assert cluster.retained == ["pvc-shop-data"]


def test_another_restore_of_the_same_backup_makes_another_volume(volumes, cluster, storage):
    volumes.take("asked for")
    first, second = restore(volumes, "data"), restore(volumes, "data")
    assert first[0]["volume"] != second[0]["volume"]
    assert second[0]["kept"] == storage.all_volumes[first[0]["volume"]].name
