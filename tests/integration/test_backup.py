"""A backup over a real Salt master from a real etcd with TLS into a real borg repository, and faults on the way.

The node is this machine: a minion in a mount namespace of its own, where /etc, /usr/local and /var/lib have what
kubeadm and our states leave there. etcd's programs come from what the lab built; without that these are skipped.
"""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest
import trustme

from lab.settings import load
from managed_k8s.artifacts import etcd_programs
from managed_k8s.backup import drill
from managed_k8s.minions.jobs import JobError, SaltJobs, sync_modules
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from tests.integration.conftest import BIN, HANGS, ONE, Salt, eventually

pytestmark = [
    pytest.mark.timeout(2 * HANGS),
    pytest.mark.skipif(os.getuid() != 0, reason="mount namespaces need root"),
]
NODE = f"{ONE}-master-2"
SECRET = "the key of the certificate authority"
# Changes to a folder stay in the node's own copy.
NAMESPACE = """
for folder in etc usr/local var/lib; do
  mount -t overlay overlay -o lowerdir=/$folder,upperdir=$NODE_FOLDER/$folder,workdir=$NODE_FOLDER/work/$folder /$folder
done
exec "$@"
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    found = sorted(load().cache.glob("artifacts/*/images/etcd.tar"))
    if not found:
        pytest.skip("the lab has built no etcd here")
    folder = tmp_path_factory.mktemp("programs")
    shutil.copy(found[-1], folder / "image.tar")
    etcd_programs._unpack(folder / "image.tar", folder)
    return folder


class Node:
    """A master: its files, its etcd, its minion."""

    def __init__(self, salt, programs, folder):
        self.salt, self.programs, self.folder = salt, programs, folder
        self.pki = folder / "etc" / "kubernetes" / "pki"
        self._files()

    def _files(self):
        for name in ("etc", "usr/local/bin", "var/lib/managed-k8s", "work/etc", "work/usr/local", "work/var/lib"):
            (self.folder / name).mkdir(parents=True)
        for name in ("etcdctl", "etcdutl"):
            shutil.copy(self.programs / name, self.folder / "usr/local/bin" / name)
        for name in drill.NEEDED:
            if name != "manifest.json":
                (self.folder / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / "etc" / name).write_text(SECRET)
        manifest = self.folder / "etc/kubernetes/manifests/kube-apiserver.yaml"
        manifest.parent.mkdir()
        manifest.write_text("spec: {containers: [{image: 'registry.k8s.io/kube-apiserver:v1.36.3'}]}")
        authority = trustme.CA()
        server = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(self.pki / "etcd/ca.crt")
        for name in ("server", "healthcheck-client"):
            server.private_key_pem.write_to_path(self.pki / f"etcd/{name}.key")
            server.cert_chain_pems[0].write_to_path(self.pki / f"etcd/{name}.crt")

    def start_etcd(self):
        certificates = self.pki / "etcd"
        self.etcd = subprocess.Popen(
            [self.programs / "etcd", "--data-dir", self.folder / "data", "--quota-backend-bytes", str(4 << 30),
             "--listen-client-urls", "https://127.0.0.1:2379", "--advertise-client-urls", "https://127.0.0.1:2379",
             "--listen-peer-urls", "unix://peer:0", "--cert-file", certificates / "server.crt",
             "--key-file", certificates / "server.key", "--client-cert-auth", "--unsafe-no-fsync",
             "--trusted-ca-file", certificates / "ca.crt"],
            cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def start_minion(self):
        script = ("unshare", "--mount", "--propagation", "private", "env", f"NODE_FOLDER={self.folder}")
        self.minion = self.salt.start_minion(NODE, *script, "sh", "-e", "-c", NAMESPACE, "sh")

    def fill(self, megabytes):
        """Put values of a megabyte that do not compress into etcd."""
        for number in range(megabytes):
            self._etcdctl("put", f"/fill/{number}", stdin=os.urandom(1 << 20))

    def save_alone(self):
        """Return how many seconds a snapshot takes with which nothing else is done."""
        begun = time.monotonic()
        self._etcdctl("snapshot", "save", self.folder / "alone.db")
        seconds = time.monotonic() - begun
        (self.folder / "alone.db").unlink()
        return seconds

    def _etcdctl(self, *words, stdin=b""):
        keys = self.pki / "etcd"
        command = [
            self.programs / "etcdctl", "--endpoints", "https://127.0.0.1:2379", "--cacert", keys / "ca.crt",
            "--cert", keys / "server.crt", "--key", keys / "server.key", *words,
        ]  # fmt: skip
        subprocess.run(command, input=stdin, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def node(running, programs, tmp_path_factory):
    with socket.socket() as taken:
        if taken.connect_ex(("127.0.0.1", 2379)) == 0:
            pytest.skip("something listens on port 2379 of this machine")
    made = Node(running, programs, tmp_path_factory.mktemp("node"))
    made.start_etcd()
    made.start_minion()
    store = Store(running.state, ONE)
    store.write("initialised.json", {"master": NODE, "finished": True})
    # As if the mirror had been asked for the image.
    artifacts = store.read("artifacts-1.36.3.json")
    store.write("artifacts-1.36.3.json", {**artifacts, "sums": {**artifacts["sums"], "images/etcd.tar": "0"}})
    for name in etcd_programs.PROGRAMS:
        shutil.copy(programs / name, store.path(f"etcd/0/{name}"))
    try:
        await_minion(running)
        sync_modules(SaltJobs(running.opts), [NODE], limit=60)
        made.fill(40)
        yield made
    finally:
        Salt.kill(made.minion, made.etcd)
        running.run("salt-key", "-y", "-d", NODE)
        store.remove("initialised.json")


def await_minion(running):
    def answers():
        with contextlib.suppress(JobError):
            return NODE in SaltJobs(running.opts).ask([NODE], "test.ping", limit=5)

    eventually(answers)


def verb(running, name, seconds=HANGS, **words):
    """Return what a verb says, as data, and its exit code."""
    done = running.run("salt-run", f"managed_k8s.{name}", "--out=json", *(f"{k}={v}" for k, v in words.items()), ONE,
                       seconds=seconds)  # fmt: skip
    text = done.stdout[done.stdout.index("{") :] if "{" in done.stdout else "{}"
    return json.loads(text), done.returncode


def names(running):
    data, _ = verb(running, "backups")
    return [one["name"] for one in data["backups"]]


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


@pytest.fixture(scope="module")
def made(running, node):
    """What `backup` says of the first one."""
    data, code = verb(running, "backup")
    assert code == 0, data
    return data


def test_a_backup_is_made_and_proven(running, made):
    assert made["member"] == NODE
    assert made["size"] > 40 << 20
    tried, code = verb(running, "backup_verify")
    assert code == 0, tried
    assert tried["proven"]
    listed, code = verb(running, "backups")
    assert (code, listed["problems"]) == (0, [])
    assert [one["name"] for one in listed["backups"]] == [made["name"]]


@pytest.mark.usefixtures("made")
def test_no_secret_is_anywhere_on_the_way(running, node):
    vault = Store.of_backups(running.opts, ONE).folder
    passphrase = (vault / "passphrase").read_text()
    assert len(passphrase) > 40
    secret = (SECRET.encode(), passphrase.encode())
    # Jobs, events' history, logs, where it arrived, the repository.
    found = [
        path
        for path in [*files(running.state), *files(running.folder / NODE), *running.folder.glob("*.log")]
        if path != vault / "passphrase" and any(text in path.read_bytes() for text in secret)
    ]
    assert found == []
    assert not [path for path in files(vault) if path.stat().st_mode & 0o077]
    assert not list((node.folder / "var/lib/managed-k8s").glob("backup/*"))
    assert not [path for path in files(running.state) if "managed-k8s-backup" in path.parts]


def start_backup(running, *, when):
    """Start a backup and return once so many bytes of it arrived."""
    process = subprocess.Popen(
        [BIN / "salt-run", "managed_k8s.backup", "--out=json", ONE],
        cwd=running.root, env=running.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    arriving = running.state / "var/cache/salt/master/minions" / NODE / "files"
    eventually(lambda: process.poll() is not None or _has_arrived(arriving, when))
    assert process.poll() is None, process.communicate()
    return process


def _has_arrived(folder, size):
    with contextlib.suppress(FileNotFoundError):
        return any(path.stat().st_size > size for path in folder.rglob("etcd.db/*"))
    return False


@pytest.mark.slow
def test_a_node_that_dies_in_the_middle_makes_no_backup_and_the_next_one_succeeds(running, node):
    before = names(running)
    process = start_backup(running, when=1 << 20)
    Salt.kill(node.minion)
    said, _ = process.communicate(timeout=HANGS)
    assert process.returncode == 1, said
    assert "silent" in said or "does not run it" in said
    assert names(running) == before
    data, code = verb(running, "check")
    assert code == 1
    assert any("the last backup failed" in problem for problem in data["problems"])
    node.start_minion()
    await_minion(running)
    data, code = verb(running, "backup")
    assert code == 0, data
    assert names(running)[0] == data["name"]


@pytest.mark.slow
def test_a_salt_master_that_restarts_in_the_middle_makes_no_half_backup(running, node):
    before = names(running)
    process = start_backup(running, when=1 << 20)
    restart(running)
    process.communicate(timeout=HANGS)
    await_minion(running)
    after = names(running)
    assert len(after) - len(before) == (0 if process.returncode else 1)
    for name in set(after) - set(before):
        assert verb(running, "backup_verify", backup=name)[1] == 0
    data, code = verb(running, "backup")
    assert code == 0, data


@pytest.mark.slow
def test_a_backup_that_is_killed_leaves_nothing_but_what_the_next_one_removes(running, node):
    before = names(running)
    process = start_backup(running, when=1 << 20)
    for one in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        one.kill()
    process.wait()
    assert names(running) == before
    # The node still sends; nobody waits for that.
    data, code = verb(running, "backup")
    assert code == 0, data
    arriving = running.state / "var/cache/salt/master/minions" / NODE / "files"
    assert not files(arriving)


# In the place of etcdctl: what it saved is damaged before anybody looked at it.
SPOILING = """#!/bin/sh -e
case "$*" in
  *"snapshot save"*) for target; do :; done; file=$target.damaged;;
  *) exec /usr/local/bin/etcdctl.whole "$@";;
esac
n=$#
for word; do
  shift
  n=$((n - 1))
  [ $n = 0 ] || set -- "$@" "$word"
done
/usr/local/bin/etcdctl.whole "$@" "$file"
{spoil}
mv "$file" "$target"
"""
FLIP = 'printf xxxxxxxx | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") / 2)) conv=notrunc status=none'


@pytest.fixture
def spoiled(node):
    """Have a shell command spoil snapshots on the node, as long as the test goes on."""
    # As the minion sees it.
    folder = Path(f"/proc/{node.minion.pid}/root/usr/local/bin")

    def spoil(command):
        if not (folder / "etcdctl.whole").exists():
            (folder / "etcdctl").rename(folder / "etcdctl.whole")
        (folder / "etcdctl").write_text(SPOILING.format(spoil=command))
        (folder / "etcdctl").chmod(0o755)

    yield spoil
    (folder / "etcdctl.whole").rename(folder / "etcdctl")


@pytest.mark.slow
@pytest.mark.parametrize("command", [FLIP, 'truncate --size=-1000000 "$file"', ': > "$file"'])
def test_a_damaged_snapshot_is_no_backup_and_is_said(running, node, spoiled, command):
    before = names(running)
    spoiled(command)
    data, code = verb(running, "backup")
    assert code == 1, data
    assert names(running) == before
    problems = verb(running, "check")[0]["problems"]
    assert any("the last backup failed" in problem for problem in problems), problems


@pytest.mark.slow
def test_after_damaged_ones_the_next_backup_is_good(running, node):
    data, code = verb(running, "backup")
    assert code == 0, data
    assert verb(running, "backup_verify", backup=data["name"])[1] == 0
    assert not any("the last backup" in problem for problem in verb(running, "check")[0]["problems"])


@pytest.mark.slow
def test_a_piece_larger_than_the_salt_master_takes_is_refused_with_what_to_set(running, node):
    conf = running.root / "master.d" / "small.conf"
    conf.write_text("file_recv_max_size: 1\n")
    try:
        restart(running)
        await_minion(running)
        data, code = verb(running, "backup")
        assert code == 1
        assert "file_recv_max_size" in data["error"]
    finally:
        conf.unlink()
        restart(running)
        await_minion(running)
    data, code = verb(running, "backup")
    assert code == 0, data


def restart(running):
    """Kill the Salt master and start it again."""
    Salt.kill(*(one for one in running.processes if Path(one.args[0]).name == "salt-master"))
    running.start_master()


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_database_of_two_gigabytes_is_made_moved_archived_and_proven(running, node):
    if shutil.disk_usage(running.folder).free < 14 << 30 or shutil.disk_usage(node.folder).free < 14 << 30:
        pytest.skip("this takes 14 GB for a while")
    node.fill(2100)
    data, code = verb(running, "backup", seconds=1800)
    assert code == 0, data
    assert data["size"] > 2 << 30
    (made,) = [one for one in History(Store(running.state, ONE)).last(5) if one.get("backup") == data["name"]]
    print(f"{data['size'] >> 20} MB: {made['seconds']} s; etcdctl snapshot save alone: {node.save_alone():.1f} s")
    tried, code = verb(running, "backup_verify", backup=data["name"], seconds=1800)
    assert code == 0, tried
    assert not files(running.state / "var/cache/salt/master/minions" / NODE / "files")
