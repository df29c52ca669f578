"""`managed_k8s.destroy` leaves nothing of a cluster, and everything of others."""

from __future__ import annotations

import pytest
from kubernetes.client import AppsV1Api, CoreV1Api, CustomObjectsApi

from managed_k8s import names
from managed_k8s.salt_master import cli
from tests.e2e.second import SERVERS
from tests.support.checkout import difference, objects
from tests.support.project import PREFIX, eventually

pytestmark = pytest.mark.timeout(3600)

CLAIM = {
    "metadata": {"name": "data"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}
SNAPSHOT = {
    "apiVersion": "snapshot.storage.k8s.io/v1",
    "kind": "VolumeSnapshot",
    "metadata": {"name": "data"},
    "spec": {"volumeSnapshotClassName": "cinder", "source": {"persistentVolumeClaimName": "data"}},
}


def deployment(image):
    """Return a user's workload that has the volume mounted when the cluster goes."""
    container = {
        "name": "one", "image": image, "command": ["sleep", "infinity"],
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }  # fmt: skip
    spec = {"containers": [container], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    labels = {"app": "user"}
    return {
        "metadata": {"name": "user"},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}},
    }


@pytest.fixture
def in_use(small, cloud):
    """The cluster with a user's volume and a snapshot of it, in Cinder."""
    core = CoreV1Api(small.api)
    plugin = AppsV1Api(small.api).read_namespaced_daemon_set("csi-cinder-nodeplugin", "kube-system")
    images = {container.name: container.image for container in plugin.spec.template.spec.containers}
    core.create_namespaced_persistent_volume_claim("default", CLAIM)
    AppsV1Api(small.api).create_namespaced_deployment("default", deployment(images["cinder-csi-plugin"]))
    eventually(lambda: [pod.status.phase for pod in core.list_namespaced_pod("default").items] == ["Running"], 300, 2)
    custom = CustomObjectsApi(small.api)
    where = ("snapshot.storage.k8s.io", "v1", "default", "volumesnapshots")
    custom.create_namespaced_custom_object(*where, SNAPSHOT)
    eventually(lambda: custom.get_namespaced_custom_object(*where, "data")["status"]["readyToUse"], 120, 2)
    return small


@pytest.fixture
def strangers(project, cloud):
    """What others have in the project: nothing of it carries the cluster's mark, some of it looks like it."""
    port = project.make_port("others")
    project.make_floating_ip(port.id)
    project.make_volume("others")
    cloud.network.create_security_group(name=f"{PREFIX}small-master", description="managed-k8s:smaller")
    cloud.compute.create_server_group(name=f"{PREFIX}small", policies=["anti-affinity"])


def test_nothing_of_the_cluster_is_left_and_nothing_of_others_is_gone(demo, in_use, strangers, cloud):
    before = objects(cloud)
    mine = [(kind, item) for kind in ("volume", "snapshot") for item in getattr(cloud.block_storage, f"{kind}s")()]
    volumes = [f"{kind} {item.name}" for kind, item in mine if item.metadata.get(names.CSI_CLUSTER) == in_use.name]
    assert len(volumes) == 2
    servers = [f"server {name}" for name in in_use.servers]

    said = in_use.checkout.run("salt-run", "managed_k8s.destroy", in_use.name, "yes=True").stdout
    assert all(name in said for name in servers)

    changes = difference(before, objects(cloud))
    gone = [change.removeprefix("gone: ") for change in changes if change.startswith("gone: ")]
    # Ports of servers, router and DHCP have names of their own, or none.
    named = [thing for thing in gone if not thing.startswith("port ") and not thing.startswith("floating IP ")]
    roles = ("gateway", "master", "worker")
    assert sorted(named) == sorted(
        [
            *servers, *volumes, "network small", "subnet small", "router small", "key pair managed-k8s-small",
            "application credential managed-k8s-small",
            *(f"security group small-{role}" for role in roles), *(f"server group small-{role}" for role in roles),
        ]
    )  # fmt: skip
    assert [change for change in changes if change.startswith("new: ")] == []
    # One floating IP a gateway, one for the API.
    assert len([thing for thing in gone if thing.startswith("floating IP ")]) == SERVERS["gateway"] + 1
    assert [thing for thing in objects(cloud).values() if "small" in thing and PREFIX not in thing] == []


def test_the_salt_master_forgets_it(demo, beside):
    assert not beside.store.folder.exists()
    keys = beside.checkout.run("salt-key", "--out=json", "--list=all").stdout
    assert f"{beside.name}-" not in keys
    assert "demo-master-1" in keys
    assert not (cli.state_folder() / "managed_k8s" / beside.name).exists()


def test_removed_again_nothing_happens(beside, cloud):
    before = objects(cloud)
    beside.checkout.run("salt-run", "managed_k8s.destroy", beside.name, "yes=True")
    assert difference(before, objects(cloud)) == []


def test_the_other_cluster_is_whole(demo, beside):
    found = beside.checkout.data("status", "demo")
    assert found["ready"], found
    assert beside.checkout.data("smoke", "demo")["ok"]
