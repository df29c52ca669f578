"""What a master sends, to a Salt master that is a dictionary."""

import contextlib
import importlib.util
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from salt.exceptions import CommandExecutionError

FILE = Path(__file__).resolve().parents[2] / "_modules" / "managed_k8s_backup.py"
PIECE = 100


@pytest.fixture
def module(tmp_path, monkeypatch) -> Any:
    """The module, on a node without etcd: its snapshot is three pieces of the ticket."""
    specification = importlib.util.spec_from_file_location("sending", FILE)
    assert specification
    assert specification.loader
    made: Any = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    made.__opts__ = {"id": "demo-master-1"}
    monkeypatch.setattr(made, "_WORK", tmp_path / "backup")
    monkeypatch.setattr(made, "_PIECE", PIECE)
    monkeypatch.setattr(made, "_CONFIGURATION", {})
    monkeypatch.setattr(
        made, "_snapshot", lambda file, ticket: (file.write_text(ticket[-1] * 3 * PIECE), {"canary": ticket})[1]
    )
    return made


@pytest.fixture
def arrived(module: ModuleType, monkeypatch):
    """Ticket -> what arrived of its database; `meanwhile` runs once, when the first piece is on its way."""
    found: dict[str, Any] = {"meanwhile": None}

    class Channel:
        def send(self, load):
            _, ticket, name = load["path"]
            if name == "etcd.db":
                found[ticket] = found.get(ticket, b"") + load["data"]
                meanwhile, found["meanwhile"] = found["meanwhile"], None
                if meanwhile:
                    meanwhile()
            return True

    monkeypatch.setattr(
        module.salt.channel.client.ReqChannel, "factory", lambda opts: contextlib.nullcontext(Channel())
    )
    return found


def test_all_of_it_is_sent_and_nothing_stays(module, arrived):
    assert module.send("ticket-a") == {"canary": "ticket-a"}
    assert arrived["ticket-a"] == b"a" * 3 * PIECE
    assert not module._WORK.exists()


def test_one_that_nobody_waits_for_ends_when_the_next_one_begins_and_does_not_harm_it(module, arrived):
    arrived["meanwhile"] = lambda: module.send("ticket-b")
    with pytest.raises(CommandExecutionError, match="another backup began"):
        module.send("ticket-a")
    assert arrived["ticket-a"] == b"a" * PIECE
    assert arrived["ticket-b"] == b"b" * 3 * PIECE


def test_what_a_killed_one_left_is_removed(module, arrived):
    left = module._WORK / "ticket-old" / "etcd.db"
    left.parent.mkdir(parents=True)
    left.write_text("x")
    module.send("ticket-a")
    assert not module._WORK.exists()


def test_a_member_whose_disk_has_no_room_says_so_before_it_is_chosen(module, monkeypatch):
    header = {"member_id": 1, "revision": 7, "cluster_id": 255}
    status = {"leader": 2, "header": header, "dbSize": 500 << 20, "version": "3.6.8"}
    monkeypatch.setattr(module, "_etcdctl", lambda *words: "")
    monkeypatch.setattr(module, "_asked", lambda *words: {"Status": status})
    free = (500 << 20) + module._RESERVE
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    assert module.member()["size"] == 500 << 20
    free -= 1
    with pytest.raises(CommandExecutionError, match="no room for a snapshot of 500 MB"):
        module.member()


def test_the_version_of_kubernetes_is_the_one_that_runs(module, tmp_path, monkeypatch):
    """The pillar in the minion's memory is of before the upgrade."""
    manifest = tmp_path / "kube-apiserver.yaml"
    manifest.write_text("spec: {containers: [{image: 'registry.k8s.io/kube-apiserver:v1.37.2'}]}")
    monkeypatch.setattr(module, "_API_SERVER", manifest)
    assert module._kubernetes() == "1.37.2"
