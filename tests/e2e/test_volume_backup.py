"""Backups of volumes of the cluster of cluster.map: made in Cinder, restored in place, beside, and after a loss."""

from __future__ import annotations

import signal
import subprocess

import pytest
from kubernetes.client import CoreV1Api, CustomObjectsApi

from managed_k8s.kube.smoke import pods
from managed_k8s.kube.smoke.workspace import Workspace
from managed_k8s.volumes.claims import LABEL, VALUE
from managed_k8s.volumes.objects import SNAPSHOT_PREFIX
from managed_k8s.volumes.record import MARK
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(1800)
NAMESPACE, COPY = "managed-k8s-volumes", "managed-k8s-volumes-copy"
SNAPSHOTS = ("snapshot.storage.k8s.io", "v1")
_LIMIT = 300
# A pod that holds the volume until it is deleted.
SLEEP = ["sleep", "infinity"]


def space(demo, namespace=NAMESPACE):
    return Workspace(demo.api, namespace)


def run(where, pod, limit=_LIMIT):
    """Run a pod to its end; return its result once it is gone, so that the next one may have its name."""
    name = pod["metadata"]["name"]
    where.create(pod)
    try:
        return where.wait_done(name, limit)
    finally:
        remove_pod(where, name)


def remove_pod(where, name):
    where.core.delete_namespaced_pod(name, where.namespace)
    eventually(
        lambda: name not in [pod.metadata.name for pod in where.core.list_namespaced_pod(where.namespace).items], 60
    )


def write(where, token):
    run(where, pods.writer(where.image(), token))


def read(where, claim="data"):
    return run(where, pods.reader(where.image(), "reader", claim))


def backups(demo):
    """Return the namespace's backups, newest first."""
    found = demo.verb("volume_backups")["backups"]
    return [one for one in found if one["claim"]["namespace"] == NAMESPACE]


def in_cinder(demo):
    return [one for one in demo.cloud.block_storage.backups() if (one.metadata or {}).get("managed-k8s/namespace")
            == NAMESPACE or _snapshot(one)]  # fmt: skip


def _snapshot(item):
    return str((item.metadata or {}).get("csi.storage.k8s.io/volumesnapshot/name", "")).startswith(SNAPSHOT_PREFIX)


@pytest.fixture(scope="module")
def data(demo):
    """A namespace with a labelled claim, and one without the label, both written to."""
    core = CoreV1Api(demo.api)
    core.create_namespace({"metadata": {"name": NAMESPACE}})
    where = space(demo)
    claim = pods.claim("data")
    claim["metadata"]["labels"] = {LABEL: VALUE}
    where.create(claim)
    write(where, "first")
    yield where
    for namespace in (NAMESPACE, COPY):
        _remove(demo, namespace)
    for one in in_cinder(demo):
        demo.cloud.block_storage.delete_backup(one.id)


def _remove(demo, namespace):
    """Remove a namespace with its volumes, those that restores left too."""
    core = CoreV1Api(demo.api)
    mine = [
        one for one in core.list_persistent_volume().items
        if one.spec.claim_ref and one.spec.claim_ref.namespace == namespace
    ]  # fmt: skip
    for one in mine:
        body = {"spec": {"persistentVolumeReclaimPolicy": "Delete"}}
        core.patch_persistent_volume(one.metadata.name, body, _content_type="application/merge-patch+json")
    Workspace(demo.api, namespace).remove()
    Workspace(demo.api, namespace).wait_removed(_LIMIT)
    eventually(lambda: namespace not in [one.metadata.name for one in core.list_namespace().items], _LIMIT, 2)


def test_a_labelled_claim_is_backed_up_in_cinder(demo, data):
    made = demo.verb("volume_backup")
    assert made["retcode"] == 0, made
    (one,) = backups(demo)
    assert (one["claim"]["name"], one["problem"], one["size"]) == ("data", "", 1)
    found = demo.cloud.block_storage.get_backup(one["id"])
    assert (found.status, found.metadata["managed-k8s/claim"]) == ("available", "data")
    # What it was made with is gone, in the cluster and in Cinder.
    custom = CustomObjectsApi(demo.api)
    eventually(lambda: not custom.list_namespaced_custom_object(*SNAPSHOTS, NAMESPACE, "volumesnapshots")["items"], 60)
    contents = custom.list_cluster_custom_object(*SNAPSHOTS, "volumesnapshotcontents")["items"]
    assert NAMESPACE not in [item["spec"]["volumeSnapshotRef"]["namespace"] for item in contents]
    assert not [one for one in demo.cloud.block_storage.snapshots() if _snapshot(one)]
    assert demo.verb("check")["problems"] == []


def test_a_claim_in_use_is_not_touched(demo, data):
    pod = pods.reader(data.image(), "holder", "data")
    pod["spec"]["containers"][0]["command"] = SLEEP
    data.create(pod)
    data.wait_running("holder", _LIMIT)
    said = demo.verb("volume_restore", "pvc=data", f"namespace={NAMESPACE}", "yes=True")
    remove_pod(data, "holder")
    assert said["retcode"] == 1
    assert "in use by pod holder" in said["error"]


def test_a_claim_goes_back_and_its_old_volume_stays(demo, data):
    write(data, "second")
    assert "yes=True" in demo.verb("volume_restore", "pvc=data", f"namespace={NAMESPACE}")["error"]
    assert read(data) == "second"
    done = demo.verb("volume_restore", "pvc=data", f"namespace={NAMESPACE}", "yes=True")
    assert done["retcode"] == 0, done
    assert read(data) == "first"
    (one,) = done["restored"]
    old = data.core.read_persistent_volume(one["kept"])
    assert old.spec.persistent_volume_reclaim_policy == "Retain"
    handle = old.spec.csi.volume_handle
    eventually(lambda: demo.cloud.block_storage.get_volume(handle).status == "available", 60)


def test_a_copy_comes_into_another_namespace(demo, data):
    done = demo.verb(
        "volume_restore", "pvc=data", f"namespace={NAMESPACE}", f"into_namespace={COPY}", "into=copy", "yes=True"
    )
    assert done["retcode"] == 0, done
    assert read(space(demo, COPY), "copy") == "first"
    # A volume like any other: it grows away with its claim.
    (one,) = done["restored"]
    space(demo, COPY).core.delete_namespaced_persistent_volume_claim("copy", COPY)
    ids = lambda: [volume.id for volume in demo.cloud.block_storage.volumes()]  # noqa: E731
    eventually(lambda: one["volume"] not in ids(), _LIMIT, 2)


def test_an_interrupted_run_is_repaired_by_the_next(demo, data):
    before = backups(demo)
    process = subprocess.Popen(
        ["salt-run", "--out=json", "managed_k8s.volume_backup", "demo"],
        cwd=demo.checkout.root, env=demo.checkout.environment, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    custom = CustomObjectsApi(demo.api)
    eventually(lambda: custom.list_namespaced_custom_object(*SNAPSHOTS, NAMESPACE, "volumesnapshots")["items"], 120)
    subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert backups(demo) == before
    assert any("interrupted" in problem for problem in demo.verb("check")["problems"])
    assert demo.verb("volume_backup")["retcode"] == 0

    def left_nothing():
        # What Cinder was still at is removed by a later run.
        assert demo.verb("volume_backup")["retcode"] == 0
        return not [one.id for one in in_cinder(demo) if MARK not in one.metadata]

    eventually(left_nothing, 300, 5)
    # As many as the policy says: the newest two, and the oldest for want of other days.
    assert 2 <= len(backups(demo)) <= 3


def test_backups_outlive_the_namespace(demo, data):
    write(data, "third")
    assert demo.verb("volume_backup")["retcode"] == 0
    newest = backups(demo)[0]
    _remove(demo, NAMESPACE)
    assert backups(demo)[0] == newest
    done = demo.verb("volume_restore", f"namespace={NAMESPACE}", "yes=True")
    assert done["retcode"] == 0, done
    assert read(space(demo)) == "third"
    claim = data.core.read_namespaced_persistent_volume_claim("data", NAMESPACE)
    assert claim.metadata.labels[LABEL] == VALUE
