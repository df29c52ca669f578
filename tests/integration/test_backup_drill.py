"""A real etcd's snapshot, through a real borg repository, into a scratch etcd: what a drill proves, and what it finds.

etcd's programs come from what the lab built; without that these are skipped.
"""

import contextlib
import hashlib
import json
import subprocess
import time

import psutil
import pytest

from lab.settings import load
from managed_k8s.artifacts import etcd_programs
from managed_k8s.backup import drill, record
from managed_k8s.backup.digest import Seal
from managed_k8s.backup.repository import Repository
from managed_k8s.state.store import Store

KEYS = 300


def images():
    return sorted(load().cache.glob("artifacts/*/images/etcd.tar"))


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    found = images()
    if not found:
        pytest.skip("the lab has built no etcd here")
    folder = tmp_path_factory.mktemp("programs")
    image = folder / "image.tar"
    image.symlink_to(found[-1])
    etcd_programs._unpack(image, folder)
    assert {path.name for path in folder.iterdir()} == {*etcd_programs.PROGRAMS, "image.tar"}
    return folder


@pytest.fixture(scope="module")
def taken(programs, tmp_path_factory):
    """Return a snapshot and what is known of it, as a master would tell."""
    room = tmp_path_factory.mktemp("source")
    snapshot = room / "etcd.db"
    with running(programs, room) as ask:
        for number in range(KEYS):
            ask("put", f"/registry/configmaps/default/c{number}", "x" * 500)
        ask("del", "/registry/configmaps/default/c0")
        ask("put", drill.CANARY, "the canary")
        ask("snapshot", "save", str(snapshot))
        status = etcd_programs.status(programs, snapshot)
        words = ("get", "", "--prefix", "--keys-only", "--limit=1", f"--rev={status['revision']}")
        counted = json.loads(ask(*words, "-w", "json"))
    seal = Seal.of(snapshot)
    assert seal.is_whole
    now = time.time()
    return snapshot, record.Record(
        name=record.name(now), time=now, member="demo-master-1", reason="test", kubernetes="1.36.3", etcd="3.6.8",
        cluster_id="cafe", revision=status["revision"], keys=status["totalKey"], count=counted["count"],
        hash=status["hash"], size=seal.size, sha256=seal.sha256, canary="the canary",
    )  # fmt: skip


@contextlib.contextmanager
def running(programs, room):
    etcd_process = subprocess.Popen(
        [programs / "etcd", "--data-dir", room / "data", "--listen-client-urls", "unix://c:0",
         "--advertise-client-urls", "unix://c:0", "--listen-peer-urls", "unix://p:0"],
        cwd=room, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def ask(*words):
        return etcd_programs.run(programs / "etcdctl", "--endpoints", "unix://c:0", *words, cwd=room)

    try:
        for _ in range(100):
            with contextlib.suppress(etcd_programs.EtcdError):
                ask("endpoint", "health")
                break
            time.sleep(0.2)
        yield ask
    finally:
        etcd_process.kill()
        etcd_process.wait()


@pytest.fixture
def repository(tmp_path):
    made = Repository(str(tmp_path / "repository"), Store(tmp_path / "salt", "demo", "managed_k8s_backups"))
    made.archives()
    return made


def put(repository, snapshot, known, tmp_path, without=()):
    folder = tmp_path / "files"
    for name in drill.NEEDED:
        if name not in without:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
    content = sorted(path.name for path in folder.iterdir())
    with repository.writing(known.name, "etcd.db", folder, content) as archive:
        archive.write(snapshot if isinstance(snapshot, bytes) else snapshot.read_bytes())
        archive.comment = known.comment()


def tried(repository, known, programs, tmp_path):
    room = tmp_path / "room"
    room.mkdir(mode=0o700)
    return drill.run(repository, known, programs, room)


def test_a_good_one_is_proven(repository, taken, programs, tmp_path):
    snapshot, known = taken
    assert known.count == KEYS
    put(repository, snapshot, known, tmp_path)
    (archive,) = repository.archives()
    assert record.read(archive) == known
    assert tried(repository, known, programs, tmp_path) == []
    # The scratch etcd ended.
    assert not [one for one in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(one.info["cmdline"] or [])]


def sealed(content):
    return content + hashlib.sha256(content).digest()


def test_a_database_that_was_changed_and_sealed_again_is_found(repository, taken, programs, tmp_path):
    snapshot, known = taken
    content = bytearray(snapshot.read_bytes()[:-32])
    where = content.index(b"configmaps/default/c7") + 10
    content[where] ^= 1
    torn = sealed(bytes(content))
    put(repository, torn, known, tmp_path)
    assert "SHA-256" in tried(repository, known, programs, tmp_path)[0]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"count": KEYS + 1}, "a scratch etcd's count is 300"),
        ({"canary": "another"}, "a scratch etcd's canary is the canary"),
        ({"revision": 5}, "the snapshot's revision is"),
        ({"hash": 5}, "the snapshot's hash is"),
    ],
)
def test_whatever_differs_from_what_was_noted_is_named(repository, taken, programs, tmp_path, more, words):
    import dataclasses

    snapshot, known = taken
    changed = dataclasses.replace(known, **more)
    put(repository, snapshot, changed, tmp_path)
    assert words in " ".join(tried(repository, changed, programs, tmp_path))


def test_missing_keys_are_named(repository, taken, programs, tmp_path):
    snapshot, known = taken
    put(repository, snapshot, known, tmp_path, without=["kubernetes/pki/ca.key"])
    assert tried(repository, known, programs, tmp_path) == ["kubernetes/pki/ca.key is missing"]
