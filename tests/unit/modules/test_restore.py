"""How a master sets aside and replaces what it has."""

import json
import stat
import time

import pytest
from salt.exceptions import CommandExecutionError

from tests.support.minion_modules import load_module

ID = "restore-20261124T120000"
MANIFEST = """spec:
  containers:
  - command:
    - etcd
    - --initial-advertise-peer-urls=https://10.30.0.21:2380
    - --initial-cluster=demo-master-1=https://10.30.0.21:2380,demo-master-2=https://10.30.0.22:2380
    - --name=demo-master-1
"""


@pytest.fixture
def master(tmp_path, monkeypatch):
    pillar = {"name": "demo-master-1", "settings": {"kubernetes": {"ignore_preflight_errors": ["Mem"]}}}
    found = load_module("managed_k8s_restore", {"managed_k8s": {**pillar, "role": "master", "virtual_ip": "127.0.0.1"}})
    kubernetes = tmp_path / "kubernetes"
    for name, path in {
        "KUBERNETES": kubernetes, "PKI": kubernetes / "pki", "MANIFESTS": kubernetes / "manifests",
        "MANAGED": tmp_path / "managed-k8s", "ETCD_DATA": tmp_path / "etcd",
    }.items():  # fmt: skip
        monkeypatch.setattr(found.common, name, path)
    for name, path in {
        "_ROOT": tmp_path / "restore", "_ASIDE": tmp_path / "restore" / "manifests", "_LOCK": tmp_path / "lock",
    }.items():  # fmt: skip
        monkeypatch.setattr(found, name, path)
    found.common.MANIFESTS.mkdir(parents=True)
    found.ran = []
    found.state = "none"
    found.__salt__ = {
        "managed_k8s_control_plane.await_api": lambda: 1.0,
        "managed_k8s_control_plane.end_processes": lambda: True,
        "managed_k8s_etcd.forget_others": lambda server: found.ran.append(("forget_others", server)),
        "managed_k8s_kubeadm.reset": lambda: found.ran.append(("reset", "")),
        "managed_k8s_kubeadm.state": lambda: found.state,
        "managed_k8s_pki.faults": lambda: ["ca.key is missing"],
    }

    def run(*words, limit):
        found.ran.append(words)
        if "status" in words:
            return json.dumps({"hash": 7})
        if "restore" in words:
            found.common.ETCD_DATA.mkdir()
            (found.common.ETCD_DATA / "member").mkdir()
        return ""

    monkeypatch.setattr(found.common, "run", run)
    return found


def sent(master):
    folder = master._folder(ID)
    for name in master.common.AUTHORITIES:
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
    (master.common.ETCD_DATA / "member" / "snap").mkdir(parents=True)
    (master.common.ETCD_DATA / "member" / "snap" / "db").write_bytes(b"own")
    (master.common.MANIFESTS / "etcd.yaml").write_text(MANIFEST)
    (master.common.MANIFESTS / "kube-apiserver.yaml").write_text("x")


def test_the_database_is_restored_while_nothing_runs_and_what_was_there_is_kept(master):
    sent(master)
    running(master)
    begun_at = time.time()
    master.restore(ID, "id-1")
    programs = [words[0].rpartition("/")[2] + " " + words[1] for words in master.ran]
    begun = ["systemctl stop", "etcdutl snapshot", "etcdutl snapshot", "systemctl start", "forget_others id-1"]
    assert programs == [*begun, "systemctl start"]
    restored = master.ran[2]
    assert restored[restored.index("--name") :][:2] == ("--name", "demo-master-1")
    assert "demo-master-1=https://10.30.0.21:2380" in restored
    assert "--mark-compacted" in restored
    # A later restore goes on beyond whatever was written after an earlier one.
    assert int(restored[restored.index("--bump-revision") + 1]) >= int(begun_at * 10_000)
    assert "--skip-hash-check" not in restored
    assert (master._folder(ID) / "etcd/member/snap/db").read_bytes() == b"own"
    assert sorted(path.name for path in master.common.MANIFESTS.iterdir()) == ["etcd.yaml", "kube-apiserver.yaml"]
    assert (master.common.PKI / "ca.key").read_text() == "sent ca.key"
    assert stat.S_IMODE((master.common.PKI / "ca.key").stat().st_mode) == 0o600


def made_of(master, version):
    """A master whose manifests kubeadm wrote, and whose states were applied for a version."""
    (master.common.MANIFESTS / "kube-apiserver.yaml").write_text(
        f"spec:\n  containers:\n  - command: [kube-apiserver]\n    image: registry.k8s.io/kube-apiserver:v{version}\n"
    )
    master.common.MANAGED.mkdir(exist_ok=True)
    (master.common.MANAGED / "kubeadm.yaml").write_text("kind: ClusterConfiguration\nkubernetesVersion: v1.36.3\n")


def test_a_backup_of_before_an_upgrade_gets_the_control_plane_that_made_it(master, monkeypatch):
    sent(master)
    running(master)
    made_of(master, "1.37.2")
    assert not master.runs("1.36.3")
    plain = master.common.run

    def run(*words, limit):
        if words[1:3] == ("init", "phase"):
            made_of(master, "1.36.3")
        return plain(*words, limit=limit)

    monkeypatch.setattr(master.common, "run", run)
    master.restore(ID, "id-1")
    phases = [words[3:5] for words in master.ran if words[1:3] == ("init", "phase")]
    assert phases == [("etcd", "local"), ("control-plane", "all")]
    assert master.runs("1.36.3")
    assert sorted(path.name for path in master.common.MANIFESTS.iterdir()) == ["etcd.yaml", "kube-apiserver.yaml"]


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
    assert list(master.common.MANIFESTS.iterdir()) == []
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
        master.common.ETCD_DATA.mkdir()
        raise CommandExecutionError("torn")

    monkeypatch.setattr(master, "_build", torn)
    with pytest.raises(CommandExecutionError):
        master.restore(ID, "id-1")
    # After a boot the kubelet has nothing to start on half a database.
    assert list(master.common.MANIFESTS.iterdir()) == []
    monkeypatch.setattr(master, "_build", good)
    master.restore(ID, "id-1")
    assert (master._folder(ID) / "etcd/member/snap/db").read_bytes() == b"own"
    master.ran.clear()
    master.restore(ID, "id-1")
    assert master.ran == [("systemctl", "start", "kubelet")]


def test_what_an_interrupted_restore_made_is_not_taken_for_the_own_database(master):
    running(master)
    master.stand_down(ID)
    (master.common.ETCD_DATA / "member" / "snap").mkdir(parents=True)
    (master.common.ETCD_DATA / "member" / "snap" / "db").write_bytes(b"half")
    assert master._database() == master._folder(ID) / "etcd/member/snap/db"


def test_finish_leaves_nothing(master):
    sent(master)
    master.finish()
    assert not master._ROOT.exists()


def test_a_server_says_what_it_still_is(master, monkeypatch):
    status = {"leader": 7, "raftIndex": 9, "header": {"revision": 5}}
    monkeypatch.setattr(master.common, "etcdctl", lambda *words: json.dumps([{"Status": status}]))
    master.state = "joined"
    running(master)
    assert master.inspect() == {
        "kubeadm": "joined", "database": True, "quorum": True, "revision": 5, "index": 9,
        "certificates": ["ca.key is missing"],
    }  # fmt: skip

    def refuse(*words):
        raise CommandExecutionError("refused")

    monkeypatch.setattr(master.common, "etcdctl", refuse)
    master.state = "partial"
    assert master.inspect() == {
        "kubeadm": "partial", "database": True, "quorum": False, "revision": None, "index": 0, "certificates": [],
    }  # fmt: skip


def test_a_new_server_becomes_a_control_plane_on_what_was_sent(master):
    folder = sent(master)
    master.common.MANAGED.mkdir()
    master.state = "partial"
    assert master.initialise(ID, "id-1") == 1.0
    done = [words[3:5] for words in master.ran if words[1:3] == ("init", "phase")]
    assert done == [
        ("preflight", "--config"), ("certs", "all"), ("kubeconfig", "all"), ("etcd", "local"),
        ("kubelet-start", "--config"),
    ]  # fmt: skip
    assert master.ran[0] == ("reset", "")
    assert [words[0] for words in master.ran].index("forget_others") == len(master.ran) - 2
    assert "--skip-phases" in master.ran[-1]
    assert (master.common.MANAGED / "initialised").is_file()
    assert (folder / "restored").is_file()
    master.ran.clear()
    master.initialise(ID, "id-1")
    assert master.ran == []
