"""What is made of the API's answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.kube.smoke import network, pods
from managed_k8s.kube.smoke.check import FailedError, eventually, perform


def node(**changes: Any) -> Any:
    """Return a node as the API describes it."""
    return SimpleNamespace(
        metadata=SimpleNamespace(
            name="demo-master-1", labels=changes.get("labels", {}), annotations=changes.get("annotations")
        ),
        spec=SimpleNamespace(
            provider_id=changes.get("provider_id"), taints=changes.get("taints"), unschedulable=changes.get("cordoned")
        ),
        status=SimpleNamespace(
            conditions=[SimpleNamespace(type="Ready", status=changes.get("ready", "True"))],
            addresses=[SimpleNamespace(type="InternalIP", address="10.30.0.21")],
            node_info=SimpleNamespace(kubelet_version="v1.36.3"),
        ),
    )


def observed(monkeypatch: pytest.MonkeyPatch, item: Any) -> dict[str, Any]:
    core = SimpleNamespace(list_node=lambda: SimpleNamespace(items=[item]))
    monkeypatch.setattr(kube_nodes, "CoreV1Api", lambda api: core)
    api: Any = None
    return kube_nodes.nodes(api)["demo-master-1"]


def test_a_master_as_it_should_be(monkeypatch: pytest.MonkeyPatch) -> None:
    taint = SimpleNamespace(key="node-role.kubernetes.io/control-plane", value=None, effect="NoSchedule")
    labels = {"node-role.kubernetes.io/control-plane": ""}
    assert observed(monkeypatch, node(labels=labels, provider_id="openstack:///1", taints=[taint])) == {
        "ready": True,
        "role": "master",
        "provider_id": "openstack:///1",
        "address": "10.30.0.21",
        "taints": ["node-role.kubernetes.io/control-plane:NoSchedule"],
        "version": "1.36.3",
        "unschedulable": False,
        "cordoned_by": None,
        "drained": False,
        "disk_pressure": False,
    }


def test_a_lost_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    taint = SimpleNamespace(key="node.kubernetes.io/out-of-service", value="nodeshutdown", effect="NoExecute")
    found = observed(monkeypatch, node(ready="Unknown", taints=[taint], cordoned=True))
    assert not found["ready"]
    assert found["role"] == "worker"
    assert found["provider_id"] is None
    assert found["taints"] == ["node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"]
    assert found["unschedulable"]


def test_a_node_that_is_being_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    annotations = {"managed-k8s/cordoned-by": "removal", "managed-k8s/drained": "2026-11-24T12:00:00Z"}
    found = observed(monkeypatch, node(annotations=annotations))
    assert (found["cordoned_by"], found["drained"]) == ("removal", True)


def test_answers_of_the_asking_pod() -> None:
    answers = "dns ok 10.96.0.1\nservice failed \npod failed connect: No route to host\n"
    assert network.parse(answers) == {
        "dns": (True, "10.96.0.1"),
        "service": (False, ""),
        "pod": (False, "connect: No route to host"),
    }
    assert network.parse("") == {}


def test_a_check_says_what_failed_and_how_long_it_took() -> None:
    def fail() -> str:
        raise FailedError("demo-worker-1 is not Ready")

    check = perform("nodes are Ready", fail)
    assert not check.ok
    assert check.detail == "demo-worker-1 is not Ready"
    assert check.seconds >= 0
    assert perform("nodes are Ready", lambda: "5 nodes").ok


def test_a_check_waits_for_what_is_still_starting() -> None:
    looks = iter(["starting", "starting", "up"])

    def look() -> str:
        state = next(looks)
        if state != "up":
            raise FailedError(state)
        return state

    assert eventually(look, limit=5, interval=0.01) == "up"


def test_a_check_ends_at_its_limit_with_what_it_saw_last() -> None:
    def look() -> str:
        raise FailedError("1 of 2 pods run")

    with pytest.raises(FailedError, match="1 of 2 pods run"):
        eventually(look, limit=0.05, interval=0.01)


@pytest.mark.parametrize(
    "pod",
    [pods.server("i"), pods.client("i", "10.0.0.1", "10.30.0.5"), pods.writer("i", "t"), pods.reader("i", "r", "c")],
)
def test_test_pods_are_allowed_under_the_strictest_pod_security(pod: dict[str, Any]) -> None:
    specification = pod["spec"]
    container = specification["containers"][0]
    assert specification["securityContext"]["runAsNonRoot"]
    assert specification["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert container["imagePullPolicy"] == "Never"
    assert not specification.get("hostNetwork")
