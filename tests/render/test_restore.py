"""What a master says of its certificates, and how it sets aside and replaces what it has."""

import base64
import datetime
import json
import stat
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from salt.exceptions import CommandExecutionError

from tests.render.conftest import Case, load_module

NOW = datetime.datetime.now(datetime.UTC)
ID = "restore-20261124T120000"
MANIFEST = """spec:
  containers:
  - command:
    - etcd
    - --initial-advertise-peer-urls=https://10.30.0.21:2380
    - --initial-cluster=demo-master-1=https://10.30.0.21:2380,demo-master-2=https://10.30.0.22:2380
    - --name=demo-master-1
"""


class Authority:
    """Signs certificates."""

    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def sign(self, name, key, days=1):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if name else self.name
        return (
            x509.CertificateBuilder()
            .subject_name(subject).issuer_name(self.name).public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(9)).not_valid_after(NOW + datetime.timedelta(days))
            .sign(self.key, hashes.SHA256())
        )  # fmt: skip


def write(folder, name, key, certificate=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = serialization.Encoding.PEM
    path.with_name(path.name + ".key").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    if certificate:
        path.with_name(path.name + ".crt").write_bytes(certificate.public_bytes(encoding))


@pytest.fixture
def master(tmp_path, monkeypatch):
    found = load_module("managed_k8s_restore", {"managed_k8s": {**Case("master").pillar(), "name": "demo-master-1"}})
    kubernetes = tmp_path / "kubernetes"
    for name, path in {
        "_ROOT": tmp_path / "restore", "_ASIDE": tmp_path / "restore" / "manifests", "_KUBERNETES": kubernetes,
        "_PKI": kubernetes / "pki", "_MANIFESTS": kubernetes / "manifests", "_MANAGED": tmp_path / "managed-k8s",
        "_ETCD": tmp_path / "etcd", "_LOCK": tmp_path / "lock",
    }.items():  # fmt: skip
        monkeypatch.setattr(found, name, path)
    found._MANIFESTS.mkdir(parents=True)
    found.ran, found.forgot = [], []
    found.__salt__["managed_k8s_node.forget_network"] = lambda: found.forgot.append("network")

    def run(*words):
        found.ran.append(words)
        if "status" in words:
            return json.dumps({"hash": 7})
        if "restore" in words:
            found._ETCD.mkdir()
            (found._ETCD / "member").mkdir()
        return ""

    monkeypatch.setattr(found, "_run", run)
    monkeypatch.setattr(found, "_await_api", lambda: 1.0)
    monkeypatch.setattr(found, "_control_plane", list)
    found.etcd = {}

    def etcdctl(*words):
        if words[0] == "get":
            value = found.etcd.get(words[1])
            return json.dumps({"kvs": [{"value": base64.b64encode(value).decode()}]} if value else {})
        if words[0] == "del":
            found.etcd = {key: value for key, value in found.etcd.items() if not key.startswith(words[-1])}
        return ""

    monkeypatch.setattr(found, "_etcdctl", etcdctl)
    return found


@pytest.fixture
def certified(master):
    """A master whose certificates are in order."""
    authorities = {name: Authority(name) for name in ("ca", "etcd/ca", "front-proxy-ca")}
    for name, authority in authorities.items():
        write(master._PKI, name, authority.key, authority.sign("", authority.key))
    for name, signer in master._SIGNED.items():
        key = ec.generate_private_key(ec.SECP256R1())
        write(master._PKI, name, key, authorities[signer].sign(name, key))
    account = ec.generate_private_key(ec.SECP256R1())
    write(master._PKI, "sa", account)
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (master._PKI / "sa.pub").write_bytes(account.public_key().public_bytes(serialization.Encoding.PEM, form))
    for name in master._KUBECONFIGS:
        (master._KUBERNETES / name).write_text("x")
    master.authorities = authorities
    return master


def test_certificates_in_order_have_no_faults(certified):
    assert certified._faults() == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda pki: (pki / "ca.key").unlink(), "ca.key is missing"),
        (lambda pki: (pki / "etcd" / "peer.crt").write_text("torn"), "etcd/peer.crt or etcd/peer.key is damaged"),
        (lambda pki: (pki / "apiserver.key").write_bytes((pki / "sa.key").read_bytes()), "is not for apiserver.key"),
        (lambda pki: (pki / "sa.pub").write_text("torn"), "sa.key or sa.pub cannot be read"),
        (lambda pki: (pki.parent / "admin.conf").write_text(""), "admin.conf is missing or empty"),
        (lambda pki: (pki / "ca.crt").write_bytes((pki / "etcd" / "ca.crt").read_bytes()), "not signed by ca.crt"),
    ],
)
def test_every_damage_is_named_and_no_key_is_shown(certified, spoil, said):
    spoil(certified._PKI)
    faults = "; ".join(certified._faults())
    assert said in faults
    assert "PRIVATE" not in faults


def test_certificates_that_ended_are_faults(certified):
    key = ec.generate_private_key(ec.SECP256R1())
    write(certified._PKI, "apiserver", key, certified.authorities["ca"].sign("apiserver", key, days=-2))
    assert any(fault.startswith("apiserver.crt ended ") for fault in certified._faults())


def sent(master):
    folder = master._folder(ID)
    for name in master._AUTHORITIES:
        path = folder / "pki" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"sent {name}")
    (folder / "encryption.yaml").write_text("sent")
    (folder / "etcd.db").write_bytes(b"database")
    about = {"size": 8, "sha256": master._sha256(folder / "etcd.db"), "hash": 7}
    (folder / "about.json").write_text(json.dumps(about))
    return folder


def test_what_came_is_checked_before_anything_is_changed(master):
    folder = sent(master)
    assert master.check(ID)
    (folder / "etcd.db").write_bytes(b"databasE")
    with pytest.raises(CommandExecutionError, match="is not the one that was sent"):
        master.check(ID)
    (folder / "pki" / "ca.key").unlink()
    with pytest.raises(CommandExecutionError, match=r"lacks ca\.key"):
        master.check(ID)
    assert not [words for words in master.ran if "systemctl" in words]


def test_only_a_restores_own_name_is_a_folder(master):
    with pytest.raises(CommandExecutionError):
        master.check("../../etc")
    assert stat.S_IMODE(master._folder(ID).stat().st_mode) == 0o700


def running(master):
    """A master with data and manifests."""
    (master._ETCD / "member" / "snap").mkdir(parents=True)
    (master._ETCD / "member" / "snap" / "db").write_bytes(b"own")
    (master._MANIFESTS / "etcd.yaml").write_text(MANIFEST)
    (master._MANIFESTS / "kube-apiserver.yaml").write_text("x")


def test_the_database_is_restored_while_nothing_runs_and_what_was_there_is_kept(master):
    sent(master)
    running(master)
    begun_at = time.time()
    master.restore(ID, "id-1")
    programs = [words[0].rpartition("/")[2] + " " + words[1] for words in master.ran]
    begun = ["systemctl stop", "etcdutl snapshot", "etcdutl snapshot", "systemctl start"]
    assert programs == [*begun, "systemctl start"]
    restored = master.ran[2]
    assert restored[restored.index("--name") :][:2] == ("--name", "demo-master-1")
    assert "demo-master-1=https://10.30.0.21:2380" in restored
    assert "--mark-compacted" in restored
    # A later restore goes on beyond whatever was written after an earlier one.
    assert int(restored[restored.index("--bump-revision") + 1]) >= int(begun_at * 10_000)
    assert "--skip-hash-check" not in restored
    assert (master._folder(ID) / "etcd/member/snap/db").read_bytes() == b"own"
    assert sorted(path.name for path in master._MANIFESTS.iterdir()) == ["etcd.yaml", "kube-apiserver.yaml"]
    assert (master._PKI / "ca.key").read_text() == "sent ca.key"
    assert stat.S_IMODE((master._PKI / "ca.key").stat().st_mode) == 0o600


def made_of(master, version):
    """A master whose manifests kubeadm wrote, and whose states were applied for a version."""
    (master._MANIFESTS / "kube-apiserver.yaml").write_text(
        f"spec:\n  containers:\n  - command: [kube-apiserver]\n    image: registry.k8s.io/kube-apiserver:v{version}\n"
    )
    master._MANAGED.mkdir(exist_ok=True)
    (master._MANAGED / "kubeadm.yaml").write_text("kind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n")


def test_a_backup_of_before_an_upgrade_gets_the_control_plane_that_made_it(master, monkeypatch):
    sent(master)
    running(master)
    made_of(master, "1.37.2")
    assert not master.runs("1.36.3")
    plain = master._run

    def run(*words):
        if words[1:3] == ("init", "phase"):
            made_of(master, "1.36.3")
        return plain(*words)

    monkeypatch.setattr(master, "_run", run)
    master.restore(ID, "id-1")
    phases = [words[3:5] for words in master.ran if words[1:3] == ("init", "phase")]
    assert phases == [("etcd", "local"), ("control-plane", "all")]
    assert master.runs("1.36.3")
    assert sorted(path.name for path in master._MANIFESTS.iterdir()) == ["etcd.yaml", "kube-apiserver.yaml"]


def test_a_backup_of_the_same_version_keeps_the_manifests(master):
    sent(master)
    running(master)
    made_of(master, "1.36.3")
    assert master.runs("1.36.3")
    master.restore(ID, "id-1")
    assert not [words for words in master.ran if "init" in words]


def test_a_survivors_own_database_is_used_where_it_was_set_aside(master):
    running(master)
    master.stand_down(ID)
    assert list(master._MANIFESTS.iterdir()) == []
    assert master._database() is not None
    master.restore(ID, "id-1", own=True)
    restored = next(words for words in master.ran if "restore" in words)
    assert str(master._folder(ID) / "etcd/member/snap/db") in restored
    assert "--skip-hash-check" in restored


def test_interrupted_after_the_old_data_is_aside_it_is_not_lost(master, monkeypatch):
    sent(master)
    running(master)
    good = master._build

    def torn(*words):
        master._ETCD.mkdir()
        raise CommandExecutionError("torn")

    monkeypatch.setattr(master, "_build", torn)
    with pytest.raises(CommandExecutionError):
        master.restore(ID, "id-1")
    # After a boot the kubelet has nothing to start on half a database.
    assert list(master._MANIFESTS.iterdir()) == []
    monkeypatch.setattr(master, "_build", good)
    master.restore(ID, "id-1")
    assert (master._folder(ID) / "etcd/member/snap/db").read_bytes() == b"own"
    master.ran.clear()
    master.restore(ID, "id-1")
    assert master.ran == [("systemctl", "start", "kubelet")]


def test_what_an_interrupted_restore_made_is_not_taken_for_the_own_database(master):
    running(master)
    master.stand_down(ID)
    (master._ETCD / "member" / "snap").mkdir(parents=True)
    (master._ETCD / "member" / "snap" / "db").write_bytes(b"half")
    assert master._database() == master._folder(ID) / "etcd/member/snap/db"


@pytest.mark.parametrize(
    ("node", "stays"),
    [(b"k8s openstack:///id-1 x", True), (b"k8s openstack:///id-0 x", False), (b"k8s", True)],
)
def test_an_earlier_server_of_this_name_is_forgotten_and_who_led(master, node, stays):
    mine, other = "/registry/minions/demo-master-1", "/registry/minions/demo-worker-1"
    master.etcd = {mine: node, other: b"openstack:///id-7", "/registry/leases/kube-system/kube-scheduler": b"x",
                   "/registry/masterleases/10.30.0.22": b"x", "/registry/leases/kube-node-lease/w": b"x"}  # fmt: skip
    master._forget_others("id-1")
    assert set(master.etcd) == {other, "/registry/leases/kube-node-lease/w", *([mine] if stays else [])}
    # Its Node is made anew, with another range of pods.
    assert master.forgot == ([] if stays else ["network"])


def test_finish_leaves_nothing(master):
    sent(master)
    master.finish()
    assert not master._ROOT.exists()
