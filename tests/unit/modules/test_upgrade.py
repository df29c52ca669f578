"""What a minion does to its own server, with programs that note how they were called."""

import os
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from tests.support.minion_modules import load_module

NEW = "1.37.2"


@pytest.fixture
def module(tmp_path, monkeypatch) -> Any:
    pillar = {"managed_k8s": {"settings": {"kubernetes": {"ignore_preflight_errors": ["Swap", "Mem"]}}}}
    made = load_module("managed_k8s_upgrade", pillar)
    for name in ("KUBERNETES", "MANIFESTS"):
        path = tmp_path / str(getattr(made.common, name)).lstrip("/")
        monkeypatch.setattr(made.common, name, path)
        path.mkdir(parents=True, exist_ok=True)
    monkeypatch.setattr(made, "_NEXT_KUBEADM", tmp_path / "kubeadm")
    return made


@pytest.fixture
def calls(module, monkeypatch):
    made = []

    def run(*words, limit, env=None):
        made.append([word.rpartition("/")[2] if n == 0 else word for n, word in enumerate(words)])
        return {"version": f"v{NEW}\n", "--version": f"Kubernetes v{NEW}\n"}.get(words[1], "")

    monkeypatch.setattr(module.common, "run", run)
    return made


IGNORED = "--ignore-preflight-errors=Swap,Mem"


def test_the_first_control_plane_applies_the_others_follow(module, calls):
    module.control_plane(NEW, first=True)
    module.control_plane(NEW)
    assert calls[1] == ["kubeadm", "upgrade", "apply", f"v{NEW}", "--yes", IGNORED]
    assert calls[3] == ["kubeadm", "upgrade", "node", IGNORED]


def test_kubeadm_of_another_version_upgrades_nothing(module, calls):
    with pytest.raises(CommandExecutionError, match=r"kubeadm is 1\.37\.2, not 1\.37\.3"):
        module.control_plane("1.37.3")
    assert len(calls) == 1


def test_the_kubeadm_that_was_brought_for_it_is_taken(module, calls, monkeypatch):
    taken = []
    monkeypatch.setattr(module.common, "run", lambda *words, limit, env=None: taken.append(words[0]) or f"v{NEW}")
    module._NEXT_KUBEADM.touch()
    module.control_plane(NEW)
    assert set(taken) == {str(module._NEXT_KUBEADM)}


def test_a_worker_takes_its_configuration_with_its_kubelet(module, calls):
    module.kubelet(NEW)
    assert [words[:3] for words in calls[1:]] == [["kubeadm", "upgrade", "node"], ["systemctl", "restart", "kubelet"]]
    (module.common.MANIFESTS / "kube-apiserver.yaml").touch()
    calls.clear()
    module.kubelet(NEW)
    assert [words[0] for words in calls] == ["kubelet", "systemctl"]


def test_a_kubelet_that_was_not_installed_is_not_restarted(module, calls):
    with pytest.raises(CommandExecutionError, match="apply the states first"):
        module.kubelet("1.37.3")
    assert len(calls) == 1


def test_a_master_ends_its_api_server_before_it_reboots_and_the_boot_starts_it(module, calls):
    def note(name):
        return lambda: calls.append([name])

    module.__salt__ = {f"managed_k8s_control_plane.{name}": note(name) for name in ("stop", "start")}
    module.reboot()
    assert [words[0] for words in calls] == ["systemd-run"]
    calls.clear()
    (module.common.MANIFESTS / "kube-apiserver.yaml").touch()
    module.reboot()
    begun = [["stop"], ["systemctl", "stop", "kubelet"], ["start"]]
    assert calls[:3] == begun
    assert calls[3][0] == "systemd-run"


def test_kubeadms_copies_of_etcd_do_not_fill_the_disk(module, calls):
    for number in range(4):
        copy = module.common.KUBERNETES / "tmp" / f"kubeadm-backup-etcd-{number}"
        (copy / "member").mkdir(parents=True)
        os.utime(copy, (number, number))
    module.control_plane(NEW)
    assert [copy.name for copy in (module.common.KUBERNETES / "tmp").iterdir()] == ["kubeadm-backup-etcd-3"]
