"""How a master's static pods are stopped, started and restarted."""

import pytest
import yaml
from salt.exceptions import CommandExecutionError

from tests.support.minion_modules import load_module


@pytest.fixture
def module(tmp_path, monkeypatch):
    found = load_module("managed_k8s_control_plane", {})
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    monkeypatch.setattr(found.common, "MANIFESTS", manifests)
    monkeypatch.setattr(found, "_STOPPED", tmp_path / "stopped")
    return found


def test_a_master_stops_serving_and_begins_again(module, monkeypatch):
    manifests = module.common.MANIFESTS
    for name in ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"):
        (manifests / f"{name}.yaml").write_text(name)
    monkeypatch.setattr(module.common, "listens", lambda port: False)
    assert len(module.stop()["changed"]) == 3
    assert [file.name for file in manifests.iterdir()] == ["etcd.yaml"]
    assert module.stop() == {"changed": []}
    assert len(module.start()["changed"]) == 3
    assert len(list(manifests.iterdir())) == 4


@pytest.fixture
def pods(module, monkeypatch):
    """Containers that the kubelet makes anew when a manifest changes."""
    for component in module._HEALTH:
        manifest = {"kind": "Pod", "metadata": {"name": component}, "spec": {"containers": []}}
        (module.common.MANIFESTS / f"{component}.yaml").write_text(yaml.safe_dump(manifest))

    def containers(component):
        manifest = yaml.safe_load((module.common.MANIFESTS / f"{component}.yaml").read_text())
        return {component + manifest["metadata"].get("annotations", {}).get("managed-k8s/restarted", "")}

    monkeypatch.setattr(module, "_containers", containers)
    monkeypatch.setattr(module, "_is_well", lambda component: True)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


def test_each_pod_is_made_anew_by_its_manifest(module, pods):
    assert module.restart() == []
    for component in module._HEALTH:
        path = module.common.MANIFESTS / f"{component}.yaml"
        assert path.stat().st_mode & 0o777 == 0o600
        assert yaml.safe_load(path.read_text())["metadata"]["annotations"].keys() == {"managed-k8s/restarted"}
    assert len(list(module.common.MANIFESTS.iterdir())) == 4


def test_a_pod_that_the_kubelet_does_not_make_anew_is_an_error(module, pods, monkeypatch):
    monkeypatch.setattr(module, "_containers", lambda component: {"the old one"})
    monkeypatch.setattr(module.common, "until", lambda is_done, seconds, pause=1: bool(is_done()))
    with pytest.raises(CommandExecutionError, match="does not restart etcd"):
        module.restart()


def test_only_containers_that_run_count(module, monkeypatch):
    listed = {"containers": "a\nb\nc\n", "tasks": "TASK PID STATUS\na 1 RUNNING\nb 2 STOPPED\nz 3 RUNNING\n"}
    monkeypatch.setattr(module.common, "run", lambda *words, limit: listed[words[3]])
    assert module._containers("etcd") == {"a"}


@pytest.mark.parametrize(
    ("answer", "well"), [(None, False), ("ok", True), ('{"health":"true"}', True), ('{"health":"false"}', False)]
)
def test_etcd_says_in_its_answer_whether_it_is_well(module, monkeypatch, answer, well):
    monkeypatch.setattr(module.common, "get", {module._HEALTH["etcd"]: answer}.get)
    assert module._is_well("etcd") is well
