"""What a minion does to its own server, with programs that note how they were called."""

import base64
import datetime
import os
from typing import Any

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from salt.exceptions import CommandExecutionError

from tests.render.conftest import load_module

NEW = "1.37.2"
NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def module(tmp_path, monkeypatch) -> Any:
    pillar = {"managed_k8s": {"settings": {"kubernetes": {"ignore_preflight_errors": ["Swap", "Mem"]}}}}
    made = load_module("managed_k8s_upgrade", pillar)
    for name in ("_KUBERNETES", "_PKI", "_MANIFESTS", "_KUBELET", "_RENEWING", "_UPCOMING"):
        path = tmp_path / str(getattr(made, name)).lstrip("/")
        monkeypatch.setattr(made, name, path)
        (path.parent if name in ("_RENEWING", "_UPCOMING") else path).mkdir(parents=True, exist_ok=True)
    return made


@pytest.fixture
def calls(module, monkeypatch):
    made = []

    def run(*words, limit, env=None):
        made.append([word.rpartition("/")[2] if n == 0 else word for n, word in enumerate(words)])
        return {"version": f"v{NEW}\n", "--version": f"Kubernetes v{NEW}\n"}.get(words[1], "")

    monkeypatch.setattr(module, "_run", run)
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
    monkeypatch.setattr(module, "_run", lambda *words, limit, env=None: taken.append(words[0]) or f"v{NEW}")
    module._UPCOMING.touch()
    module.control_plane(NEW)
    assert set(taken) == {str(module._UPCOMING)}


def test_a_worker_takes_its_configuration_with_its_kubelet(module, calls):
    module.kubelet(NEW)
    assert [words[:3] for words in calls[1:]] == [["kubeadm", "upgrade", "node"], ["systemctl", "restart", "kubelet"]]
    (module._MANIFESTS / "kube-apiserver.yaml").touch()
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

    names = ("stop_control_plane", "start_control_plane")
    module.__salt__ = {f"managed_k8s_node.{name}": note(name) for name in names}
    module.restart()
    assert [words[0] for words in calls] == ["systemd-run"]
    calls.clear()
    (module._MANIFESTS / "kube-apiserver.yaml").touch()
    module.restart()
    begun = [["stop_control_plane"], ["systemctl", "stop", "kubelet"], ["start_control_plane"]]
    assert calls[:3] == begun
    assert calls[3][0] == "systemd-run"


def test_kubeadms_copies_of_etcd_do_not_fill_the_disk(module, calls):
    for number in range(4):
        copy = module._KUBERNETES / "tmp" / f"kubeadm-backup-etcd-{number}"
        (copy / "member").mkdir(parents=True)
        os.utime(copy, (number, number))
    module.control_plane(NEW)
    assert [copy.name for copy in (module._KUBERNETES / "tmp").iterdir()] == ["kubeadm-backup-etcd-3"]


# Certificates


def pem(days, with_key=False):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(NOW - DAY).not_valid_after(NOW + days * DAY).sign(key, hashes.SHA256())
    )  # fmt: skip
    text = made.public_bytes(serialization.Encoding.PEM).decode()
    if not with_key:
        return text
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode() + text


def end(days):
    return (NOW + days * DAY).timestamp()


def test_the_first_certificate_of_each_kind_counts(module):
    (module._PKI / "etcd").mkdir()
    (module._KUBELET / "pki").mkdir()
    for path, days in (("ca.crt", 3000), ("etcd/ca.crt", 2000), ("apiserver.crt", 90), ("etcd/peer.crt", 80)):
        (module._PKI / path).write_text(pem(days))
    (module._KUBELET / "pki" / "kubelet-client-current.pem").write_text(pem(60, with_key=True))
    told = {"control_plane": end(80), "kubelet": end(60), "authority": end(2000), "renewing": False}
    assert module.certificates() == told
    embedded = base64.b64encode(pem(70).encode()).decode()
    text = yaml.safe_dump({"users": [{"user": {"client-certificate-data": embedded}}]}, width=10**9)
    (module._KUBERNETES / "scheduler.conf").write_text(text)
    module._RENEWING.touch()
    assert module.certificates() == told | {"control_plane": end(70), "renewing": True}


def test_a_worker_has_no_certificates_of_kubeadm(module):
    (module._PKI / "ca.crt").write_text(pem(3000))
    (module._PKI / "broken.crt").write_text("this is none")
    assert module.certificates() == {
        "control_plane": None, "kubelet": None, "authority": end(3000), "renewing": False,
    }  # fmt: skip


@pytest.fixture
def pods(module, monkeypatch):
    """Containers that the kubelet makes anew when a manifest changes."""
    for component in module._COMPONENTS:
        manifest = {"kind": "Pod", "metadata": {"name": component}, "spec": {"containers": []}}
        (module._MANIFESTS / f"{component}.yaml").write_text(yaml.safe_dump(manifest))

    def containers(component):
        manifest = yaml.safe_load((module._MANIFESTS / f"{component}.yaml").read_text())
        return {component + manifest["metadata"].get("annotations", {}).get("managed-k8s/restarted", "")}

    monkeypatch.setattr(module, "_containers", containers)
    monkeypatch.setattr(module, "_is_well", lambda url: True)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)


def test_renewed_certificates_are_taken_into_use(module, calls, pods):
    assert module.renew() == {"not_well_yet": []}
    assert calls == [["kubeadm", "certs", "renew", "all"]]
    assert not module._RENEWING.is_file()
    for component in module._COMPONENTS:
        path = module._MANIFESTS / f"{component}.yaml"
        assert path.stat().st_mode & 0o777 == 0o600
        assert yaml.safe_load(path.read_text())["metadata"]["annotations"].keys() == {"managed-k8s/restarted"}
    assert len(list(module._MANIFESTS.iterdir())) == 4


@pytest.mark.parametrize(("days", "renewed"), [(-1, True), (5000, False)])
def test_a_masters_kubelet_whose_certificate_ended_gets_one(module, calls, pods, monkeypatch, days, renewed):
    """It would not even start without, and then no static pod does."""
    folder = module._KUBELET / "pki"
    folder.mkdir()
    old, current = folder / "kubelet-client-old.pem", folder / "kubelet-client-current.pem"
    old.write_text(pem(days, with_key=True))
    current.symlink_to(old)
    parts = {part: base64.b64encode(f"new {part}\n".encode()).decode() for part in ("certificate", "key")}
    encoded = {f"client-{part}-data": data for part, data in parts.items()}
    plain = module._run

    def run(*words, limit, env=None):
        plain(*words, limit=limit)
        return yaml.safe_dump({"users": [{"user": encoded}]}) if words[1:3] == ("kubeconfig", "user") else ""

    monkeypatch.setattr(module, "_run", run)
    module.__pillar__["managed_k8s"]["name"] = "demo-master-1"
    module.renew()
    assert (["systemctl", "restart", "kubelet"] in calls) is renewed
    assert current.is_symlink()
    assert (current.read_text() == "new certificate\nnew key\n") is renewed
    if renewed:
        assert "--client-name=system:node:demo-master-1" in calls[1]
        assert current.resolve().stat().st_mode & 0o777 == 0o600
        assert old.is_file()


def test_a_renewal_that_ended_by_halves_is_told(module, calls, pods, monkeypatch):
    monkeypatch.setattr(module, "_containers", lambda component: {"the old one"})
    monkeypatch.setattr(module, "_until", lambda is_done, seconds: bool(is_done()))
    with pytest.raises(CommandExecutionError, match="does not restart etcd"):
        module.renew()
    assert module.certificates()["renewing"] is True


def test_only_containers_that_run_count(module, monkeypatch):
    listed = {"containers": "a\nb\nc\n", "tasks": "TASK PID STATUS\na 1 RUNNING\nb 2 STOPPED\nz 3 RUNNING\n"}
    monkeypatch.setattr(module, "_run", lambda *words, limit: listed[words[3]])
    assert module._containers("etcd") == {"a"}


def test_what_a_program_says_is_told_without_secrets(module):
    with pytest.raises(CommandExecutionError, match=r"sh.*failed:\ntoken \(secret\)"):
        module._run("/bin/sh", "-c", "echo token abcdef.0123456789abcdef; exit 3", limit=10)
    with pytest.raises(CommandExecutionError, match="did not end within"):
        module._run("/bin/sleep", "5", limit=0.1)
