"""Add-ons and smoke tests on a real cluster: the one that `bench/by_hand.sh up` makes."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from kubernetes.client import AppsV1Api, CoreV1Api

from bench import by_hand_addons
from managed_k8s.kube import addons, bootstrap_token, client, csr, resources, smoke
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.kube.smoke import basics, pods, workspace
from tests.support.project import eventually

STATE = Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local/state"))
WORK = STATE / "managed-k8s/by-hand"
MIRROR, VERSION = os.environ.get("MIRROR", "http://10.77.0.10"), os.environ.get("KUBERNETES_VERSION", "1.36.3")


@pytest.fixture(scope="module")
def api() -> Any:
    if not (WORK / "kubeconfig").exists():
        pytest.skip("there is no cluster; bench/by_hand.sh up makes it")
    return client.connect(WORK / "kubeconfig")


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return by_hand_addons.objects(WORK, MIRROR, VERSION)


@pytest.fixture(scope="module")
def applied(api: Any, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    addons.apply(api, objects, print)
    return objects


def failed(checks: list[smoke.Check]) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.ok}


def run(api: Any, *, report: Callable[[smoke.Check], None] = print) -> list[smoke.Check]:
    return smoke.run(api, by_hand_addons.SETTINGS, report)


def test_applied_again_nothing_changes(api: Any, applied: list[dict[str, Any]]) -> None:
    assert addons.missing(api, applied) == []
    assert addons.apply(api, applied, print) == []


def test_what_is_not_applied_is_missing(api: Any, applied: list[dict[str, Any]]) -> None:
    assert addons.missing(api, applied[:-1]) != []


def test_what_others_take_away_comes_back(api: Any, applied: list[dict[str, Any]]) -> None:
    apps = AppsV1Api(api)
    label = {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}
    apps.patch_namespaced_deployment("coredns", "kube-system", label)
    assert addons.missing(api, applied) == ["Deployment kube-system/coredns is not there or was changed"]
    assert addons.apply(api, applied, print) == ["Deployment kube-system/coredns"]
    assert addons.missing(api, applied) == []


def test_another_volume_type_makes_the_class_anew(api: Any, applied: list[dict[str, Any]]) -> None:
    changed = [
        {**item, "parameters": {"type": "standard"}} if item["kind"] == "StorageClass" else item for item in applied
    ]
    assert addons.apply(api, changed, print) == ["StorageClass cinder"]
    assert addons.apply(api, applied, print) == ["StorageClass cinder"]


def test_what_kubernetes_refuses_is_named(api: Any) -> None:
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "Not_A_Name", "namespace": "default"}}
    with pytest.raises(addons.ApplyError, match="ConfigMap default/Not_A_Name"):
        addons.apply(api, [wrong], print)


def test_tokens_come_and_go(api: Any) -> None:
    token = bootstrap_token.create(api, 60)
    name = f"jws-kubeconfig-{token.partition('.')[0]}"

    def signed() -> bool:
        return name in CoreV1Api(api).read_namespaced_config_map("cluster-info", "kube-public").data

    assert signed()
    bootstrap_token.delete(api, token)
    bootstrap_token.delete(api, token)
    eventually(lambda: not signed(), limit=20)


def test_a_kubelet_gets_its_serving_certificate(api: Any) -> None:
    name = "bh-worker-1"
    drop = "rm -f /var/lib/kubelet/pki/kubelet-server-*; systemctl restart kubelet"
    ssh(name, f"sudo sh -c '{drop}'")
    addresses = {node: state["address"] for node, state in kube_nodes.nodes(api).items()}
    said: list[str] = []
    others = {node: address for node, address in addresses.items() if node != name}

    def asked() -> bool:
        assert csr.approve_serving(api, others, said.append) == []
        return any(name in line for line in said)

    eventually(asked, limit=60)
    assert "no node of the inventory" in said[0]
    assert csr.approve_serving(api, {**addresses, name: "10.31.0.250"}) == []
    assert len(csr.approve_serving(api, addresses)) >= 1
    assert csr.approve_serving(api, addresses) == []


def test_a_healthy_cluster_passes_and_nothing_is_left(api: Any, applied: list[dict[str, Any]]) -> None:
    checks = run(api)
    assert failed(checks) == {}
    assert len(checks) == 13
    core = CoreV1Api(api)
    mine = [volume for volume in core.list_persistent_volume().items if volume.metadata.name]
    assert [volume for volume in mine if volume.spec.claim_ref.namespace.startswith(workspace.PREFIX)] == []


def test_a_killed_run_is_cleaned_up_by_the_next(api: Any, applied: list[dict[str, Any]]) -> None:
    space = workspace.Workspace(api, f"{workspace.PREFIX}killed")
    space.core.create_namespace({"metadata": {"name": space.namespace, "labels": workspace.LABELS}})
    space.create(pods.claim("data"))
    space.create(pods.writer(space.image(), "token"))
    eventually(space.volumes, limit=120)
    workspace.remove_leftovers(api)
    space.wait_removed(180)
    names = [item.metadata.name for item in space.core.list_namespace().items if item.status.phase == "Active"]
    assert space.namespace not in names


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basics, "_LIMIT", 5)


@pytest.fixture
def without_dns(api: Any, applied: list[dict[str, Any]]) -> Iterator[None]:
    apps = AppsV1Api(api)
    apps.patch_namespaced_deployment_scale("coredns", "kube-system", {"spec": {"replicas": 0}})
    eventually(lambda: not apps.read_namespaced_deployment("coredns", "kube-system").status.replicas, limit=60)
    yield
    apps.patch_namespaced_deployment_scale("coredns", "kube-system", {"spec": {"replicas": 2}})


@pytest.mark.usefixtures("without_dns", "impatient")
def test_without_dns_that_check_fails_and_no_other(api: Any) -> None:
    found = failed(run(api))
    assert set(found) == {"add-ons run", "a pod resolves kubernetes.default"}
    assert "kube-system/coredns" in found["add-ons run"]


@pytest.fixture
def without_cloud_controller(api: Any, applied: list[dict[str, Any]]) -> Iterator[None]:
    nowhere = {"spec": {"template": {"spec": {"nodeSelector": {"nowhere": "yes"}}}}}
    name = "openstack-cloud-controller-manager"
    AppsV1Api(api).patch_namespaced_daemon_set(name, "kube-system", nowhere)
    yield
    AppsV1Api(api).patch_namespaced_daemon_set(
        name, "kube-system", {"spec": {"template": {"spec": {"nodeSelector": {"nowhere": None}}}}}
    )
    addons.apply(api, applied, print)


@pytest.mark.usefixtures("without_cloud_controller", "impatient")
def test_without_the_cloud_controller_its_absence_is_named(api: Any) -> None:
    with pytest.raises(smoke.FailedError, match="openstack-cloud-controller-manager"):
        basics.workloads(api)


def ssh(server: str, command: str, data: bytes | None = None, timeout: float = 600) -> str:
    words = ["ssh", "-F", str(WORK / "ssh.conf"), server, command]
    done = subprocess.run(words, input=data, capture_output=True, timeout=timeout)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


def test_the_script_on_the_master_passes(applied: list[dict[str, Any]]) -> None:
    archive = BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, text in resources.files(by_hand_addons.SETTINGS, applied).items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o755 if text.startswith("#!") else 0o644
            tar.addfile(entry, BytesIO(text.encode()))
    ssh("bh-master-1", "mkdir -p .managed_k8s && tar -C .managed_k8s -xf -", archive.getvalue())
    said = ssh("bh-master-1", ".managed_k8s/smoke-test")
    print(said)
    assert "PASSED" in said
    assert "FAIL" not in said
