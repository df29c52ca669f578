"""Draining a node of a cluster in memory."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from managed_k8s.kube import drain, node_annotations


class Api:
    """Stands for the API, and for the classes that speak to it."""

    def __init__(self, pods=(), protected=()):
        self.node: dict[str, Any] = {"annotations": {}, "unschedulable": None, "taints": None}
        self.pods = {pod.metadata.name: pod for pod in pods}
        self.protected, self.deleted, self.attachments = set(protected), [], []
        self.conflicts = 0

    def read_node(self, name):
        metadata = SimpleNamespace(annotations=dict(self.node["annotations"]), resource_version="7")
        taints = [SimpleNamespace(**{"value": None, **taint}) for taint in self.node["taints"] or []]
        return SimpleNamespace(
            metadata=metadata, spec=SimpleNamespace(unschedulable=self.node["unschedulable"], taints=taints)
        )

    def patch_node(self, name, body, _content_type):
        assert _content_type == "application/merge-patch+json"
        if self.conflicts:
            self.conflicts -= 1
            raise ApiException(status=409)
        for key, value in body.get("metadata", {}).get("annotations", {}).items():
            self.node["annotations"].pop(key, None)
            if value is not None:
                self.node["annotations"][key] = value
        self.node |= body.get("spec", {})

    def list_pod_for_all_namespaces(self, field_selector):
        assert field_selector == "spec.nodeName=demo-worker-1"
        return SimpleNamespace(items=list(self.pods.values()))

    def create_namespaced_pod_eviction(self, name, namespace, body):
        if name in self.protected:
            error = ApiException(status=429, reason="Too Many Requests")
            error.body = json.dumps({"message": "The disruption budget web needs 1 healthy pods"})
            raise error
        self.pods.pop(name)

    def delete_namespaced_pod(self, name, namespace):
        self.deleted.append(name)
        if self.pods.pop(name, None) is None:
            raise ApiException(status=404)

    def list_volume_attachment(self):
        return SimpleNamespace(items=self.attachments)

    def delete_node(self, name):
        raise ApiException(status=404)


def pod(name, owner=None, mirror=False, phase="Running"):
    owners = [SimpleNamespace(kind=owner, controller=True)] if owner else []
    annotations = {"kubernetes.io/config.mirror": "x"} if mirror else None
    metadata = SimpleNamespace(
        name=name, namespace="default", owner_references=owners, annotations=annotations, deletion_timestamp=None
    )
    return SimpleNamespace(metadata=metadata, status=SimpleNamespace(phase=phase))


@pytest.fixture
def api(monkeypatch):
    def make(*pods, protected=()):
        made: Any = Api(pods, protected)
        monkeypatch.setattr(drain, "CoreV1Api", lambda api: api)
        monkeypatch.setattr(drain, "StorageV1Api", lambda api: api)
        for name in ("_INTERVAL", "_ENDING", "_UNMOUNTED", "_FREED"):
            monkeypatch.setattr(drain, name, 0.01)
        return made

    return make


def evict(made, force=True, limit=0.1):
    said: list[str] = []
    drain.evict(made, "demo-worker-1", limit, said.append, force)
    return said


def test_only_what_can_run_elsewhere_leaves(api):
    made = api(pod("web"), pod("flannel", "DaemonSet"), pod("etcd", mirror=True), pod("job", phase="Succeeded"))
    evict(made)
    assert set(made.pods) == {"flannel", "etcd", "job"}
    assert made.deleted == []


def test_budgets_are_respected_up_to_the_limit(api):
    made = api(pod("web"), pod("other"), protected=["web"])
    said = evict(made)
    assert made.deleted == ["web"]
    assert any("default/web may not go yet" in words for words in said)
    assert any("time is up: default/web" in words for words in said)


def test_without_force_a_budget_stops_it_and_is_named(api):
    made = api(pod("web"), protected=["web"])
    with pytest.raises(drain.DrainError, match=r"default/web did not leave .* budget web needs 1 healthy"):
        evict(made, force=False)
    assert made.deleted == []


def test_a_pod_that_is_gone_is_no_error(api):
    made = api(pod("web"))
    made.create_namespaced_pod_eviction = lambda name, namespace, body: (
        made.pods.clear() or (_ for _ in ()).throw(ApiException(status=404))
    )
    evict(made)


def test_what_the_api_refuses_otherwise_is_said(api):
    made = api(pod("web"))
    made.create_namespaced_pod_eviction = lambda name, namespace, body: (_ for _ in ()).throw(ApiException(status=403))
    with pytest.raises(ApiException):
        evict(made)


def test_who_cordoned_is_remembered(api):
    made = api()
    assert drain.cordon(made, "demo-worker-1", node_annotations.OPERATOR)
    assert made.node["unschedulable"] is True
    # A removal that is called off leaves the operator's cordon.
    assert not drain.cordon(made, "demo-worker-1", node_annotations.REMOVAL)
    drain.mark_drained(made, "demo-worker-1")
    assert not drain.uncordon(made, "demo-worker-1", node_annotations.REMOVAL)
    assert made.node["unschedulable"] is True
    assert made.node["annotations"] == {node_annotations.CORDONED: node_annotations.OPERATOR}
    assert drain.uncordon(made, "demo-worker-1", node_annotations.OPERATOR)
    assert (made.node["unschedulable"], made.node["annotations"]) == (None, {})


def test_somebody_elses_cordon_stays(api):
    made = api()
    made.node["unschedulable"] = True
    assert not drain.cordon(made, "demo-worker-1", node_annotations.REMOVAL)
    assert not drain.uncordon(made, "demo-worker-1", node_annotations.REMOVAL)
    assert made.node["unschedulable"] is True


def test_a_dead_node_is_tainted_beside_what_it_has(api):
    made = api()
    made.node["taints"] = [{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]
    made.conflicts = 2
    said: list[str] = []
    drain.free(made, "demo-worker-1", said.append)
    assert made.node["taints"] == [
        {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"},
        drain.OUT_OF_SERVICE,
    ]
    drain.free(made, "demo-worker-1", said.append)
    assert len(made.node["taints"]) == 2
    assert said == []


def test_volumes_that_stay_attached_are_said(api):
    made = api()
    source = SimpleNamespace(persistent_volume_name="pvc-1")
    made.attachments = [SimpleNamespace(spec=SimpleNamespace(node_name="demo-worker-1", source=source))]
    said: list[str] = []
    drain.free(made, "demo-worker-1", said.append)
    assert said == ["volumes are still attached to demo-worker-1: pvc-1"]


def test_a_node_that_is_gone_is_fine(api):
    drain.delete_node(api(), "demo-worker-1")
