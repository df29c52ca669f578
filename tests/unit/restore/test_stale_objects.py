"""What a restored database says of servers that are gone is taken out; what is there stays."""

from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from managed_k8s.kube import drain
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.restore import stale_objects

SERVERS = {"demo-master-1": "m1", "demo-master-2": "m2", "demo-worker-1": "w1", "demo-worker-3": "w3"}


def node(server):
    return {"provider_id": f"openstack:///{server}" if server else None, "ready": True}


@pytest.fixture
def cluster(monkeypatch):
    found = SimpleNamespace(
        nodes={
            "demo-master-1": node(None), "demo-master-2": node("m2"), "demo-master-3": node("m3"),
            "demo-worker-1": node("w1"), "demo-worker-2": node("w2"), "demo-worker-3": node("old"), "mine": node(None),
        },
        attached={"a": "demo-worker-1", "b": "demo-worker-2", "c": "demo-worker-3"},
    )  # fmt: skip

    class Storage:
        def __init__(self, api):
            pass

        def list_volume_attachment(self):
            return SimpleNamespace(items=[attachment(name, on) for name, on in found.attached.items()])

        def delete_volume_attachment(self, name):
            assert name in found.attached

        def patch_volume_attachment(self, name, body, _content_type):
            assert body == {"metadata": {"finalizers": None}}
            del found.attached[name]

    def attachment(name, on):
        source = SimpleNamespace(persistent_volume_name=f"pv-{name}")
        return SimpleNamespace(metadata=SimpleNamespace(name=name), spec=SimpleNamespace(node_name=on, source=source))

    monkeypatch.setattr(stale_objects, "StorageV1Api", Storage)
    monkeypatch.setattr(kube_nodes, "nodes", lambda api: dict(found.nodes))
    monkeypatch.setattr(drain, "delete_node", lambda api, name: found.nodes.pop(name))
    return found


def run(cluster, members=()):
    api: Any = None
    return stale_objects.clean(api, SERVERS, "demo-master-1", ["demo-master-2"], members, lambda words: None)


def test_what_is_gone_or_joins_anew_is_deleted(cluster):
    run(cluster)
    assert set(cluster.nodes) == {"demo-master-1", "demo-worker-1", "mine"}


def test_volumes_of_servers_that_are_gone_are_free(cluster):
    run(cluster)
    assert cluster.attached == {"a": "demo-worker-1"}


def test_workers_that_the_backup_does_not_know_are_named(cluster):
    assert run(cluster, ["demo-worker-1", "demo-worker-3", "demo-worker-4"]) == ["demo-worker-3", "demo-worker-4"]


def test_it_waits_for_the_nodes_own_master(cluster):
    del cluster.nodes["demo-master-1"]
    with pytest.raises(ApiException):
        run(cluster)
    assert "demo-worker-2" in cluster.nodes
