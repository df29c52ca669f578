"""What a master sends, to a Salt master that is a dictionary."""

import contextlib
import random
import subprocess
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

from tests.support.minion_modules import load_module

PIECE = 1 << 20


@pytest.fixture
def loaded(tmp_path, monkeypatch) -> Any:
    """The module."""
    made = load_module("managed_k8s_backup", {})
    made.__opts__ = {"id": "demo-master-1"}
    monkeypatch.setattr(made, "_WORK", tmp_path / "backup")
    monkeypatch.setattr(made, "_PIECE", PIECE)
    monkeypatch.setattr(made, "_CONFIGURATION", {})
    return made


@pytest.fixture
def module(loaded, monkeypatch) -> Any:
    """The module, on a node whose etcd's snapshot is two and a half pieces of the ticket, written half by half."""
    monkeypatch.setattr(loaded, "member", lambda: {"version": "3.6.8", "cluster_id": "cafe"})
    monkeypatch.setattr(loaded, "_kubernetes", lambda: "1.36.3")
    monkeypatch.setattr(loaded.common, "run", lambda *words, limit: '{"revision": 7, "totalKey": 9, "hash": 1}')
    monkeypatch.setattr(loaded, "_asked", lambda *words: {"count": 5})
    monkeypatch.setattr(loaded.common, "etcdctl", etcdctl)
    return loaded


def snapshot(ticket):
    """Return what etcd of the fixture above gives for a ticket; nothing makes it smaller."""
    return random.Random(ticket).randbytes(5 * PIECE // 2)


def etcdctl(*words, **options):
    """Save as etcdctl does: under another name until it is whole."""
    if words[:2] == ("snapshot", "save"):
        file = Path(words[2])
        part = file.with_name("etcd.db.part")
        with part.open("wb", buffering=0) as target:
            content = snapshot(file.parent.name)
            for start in range(0, len(content), PIECE // 2):
                target.write(content[start : start + PIECE // 2])
                time.sleep(0.01)
        part.rename(file)


@pytest.fixture
def arrived(module: ModuleType, monkeypatch):
    """Ticket -> pieces of its database that arrived; `meanwhile` runs once, when the first piece is on its way."""
    found: dict[str, Any] = {"meanwhile": None}

    class Channel:
        def send(self, load):
            _, ticket, name, *number = load["path"]
            if name == "etcd.db":
                assert load["loc"] == 0
                found.setdefault(ticket, {})[int(*number)] = load["data"]
                meanwhile, found["meanwhile"] = found["meanwhile"], None
                if meanwhile:
                    meanwhile()
            return True

    monkeypatch.setattr(
        module.salt.channel.client.ReqChannel, "factory", lambda opts: contextlib.nullcontext(Channel())
    )
    return found


def whole(pieces):
    packed = b"".join(piece for _, piece in sorted(pieces.items()))
    return subprocess.run(["zstd", "--decompress", "--stdout"], input=packed, check=True, capture_output=True).stdout


def test_all_of_it_is_sent_and_nothing_stays(module, arrived):
    assert module.send("ticket-a") == {
        "kubernetes": "1.36.3", "etcd": "3.6.8", "cluster_id": "cafe", "canary": "ticket-a", "revision": 7, "keys": 9,
        "count": 5, "hash": 1, "size": 5 * PIECE // 2, "seal": snapshot("ticket-a")[-32:].hex(),
    }  # fmt: skip
    assert whole(arrived["ticket-a"]) == snapshot("ticket-a")
    *full, last = (len(piece) for _, piece in sorted(arrived["ticket-a"].items()))
    assert full == [PIECE, PIECE]
    assert PIECE // 2 <= last < PIECE
    assert not module._WORK.exists()


def test_what_etcd_refuses_is_said_and_nothing_stays(module, arrived, monkeypatch):
    def refuse(*words, **options):
        if words[:2] == ("snapshot", "save"):
            raise CommandExecutionError("etcdctl: too many requests")

    monkeypatch.setattr(module.common, "etcdctl", refuse)
    with pytest.raises(CommandExecutionError, match="too many requests"):
        module.send("ticket-a")
    assert "ticket-a" not in arrived
    assert not module._WORK.exists()


def test_without_zstd_it_says_what_installs_it_and_nothing_stays(module, arrived, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CommandExecutionError, match=r"zstd.*state\.apply"):
        module.send("ticket-a")
    assert "ticket-a" not in arrived
    assert not module._WORK.exists()


def test_one_that_nobody_waits_for_ends_when_the_next_one_begins_and_does_not_harm_it(module, arrived):
    arrived["meanwhile"] = lambda: module.send("ticket-b")
    with pytest.raises(CommandExecutionError, match="another backup began"):
        module.send("ticket-a")
    assert len(arrived["ticket-a"]) < 3
    assert whole(arrived["ticket-b"]) == snapshot("ticket-b")


def test_what_a_killed_one_left_is_removed(module, arrived):
    left = module._WORK / "ticket-old" / "etcd.db"
    left.parent.mkdir(parents=True)
    left.write_text("x")
    module.send("ticket-a")
    assert not module._WORK.exists()


def test_a_member_whose_disk_has_no_room_says_so_before_it_is_chosen(loaded, monkeypatch):
    header = {"member_id": 1, "revision": 7, "cluster_id": 255}
    status = {"leader": 2, "header": header, "dbSize": 500 << 20, "version": "3.6.8"}
    monkeypatch.setattr(loaded.common, "etcdctl", lambda *words: "")
    monkeypatch.setattr(loaded, "_asked", lambda *words: {"Status": status})
    free = (500 << 20) + loaded.common.RESERVE
    monkeypatch.setattr(loaded.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert loaded.member()["size"] == 500 << 20
    free -= 1
    with pytest.raises(CommandExecutionError, match="no room for a snapshot of 500 MB"):
        loaded.member()


def test_the_version_of_kubernetes_is_the_one_that_runs(loaded, tmp_path, monkeypatch):
    """The pillar in the minion's memory is of before the upgrade."""
    manifest = tmp_path / "kube-apiserver.yaml"
    manifest.write_text("spec: {containers: [{image: 'registry.k8s.io/kube-apiserver:v1.37.2'}]}")
    monkeypatch.setattr(loaded.common, "MANIFESTS", tmp_path)
    assert loaded._kubernetes() == "1.37.2"
