"""Backups that tests make."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
import time
from typing import Any

from managed_k8s.backup import record as records
from managed_k8s.backup import upload
from managed_k8s.backup.record import Record
from managed_k8s.minions.jobs import Answer, JobError
from tests.support.settings import settings

NONE = {"hourly": 0, "daily": 0, "weekly": 0, "monthly": 0}
SETTINGS = settings(backup={"retention": {"last": 3, **NONE}})


def record(at: float, **more: Any) -> Record:
    """Return a record of a backup that was begun then."""
    facts: dict[str, Any] = {
        "name": records.name(at), "time": at, "member": "demo-master-1", "reason": "schedule", "kubernetes": "1.36.3",
        "etcd": "3.6.8", "cluster_id": "cafe", "revision": 7, "keys": 9, "count": 5, "hash": 1, "size": 100,
        "sha256": "0" * 64, "canary": "c",
    }  # fmt: skip
    return Record(**(facts | more))


def snapshot(size: int = 300_000) -> bytes:
    """Return bytes that end as etcdctl's snapshots do."""
    content = os.urandom(size)
    return content + hashlib.sha256(content).digest()


class Master:
    """A control plane node that sends snapshots; it is the `jobs` of the code under test.

    spoil: changes what is sent, not what is said of it. tear: changes each packed piece on its way. broken: raised
    instead of sending.
    """

    def __init__(self, opts: dict[str, Any]) -> None:
        self.opts = opts
        self.content = snapshot()
        self.spoil: Any = lambda content: content
        self.tear: Any = lambda piece: piece
        self.broken: Exception | None = None
        self.members = {"demo-master-1": True, "demo-master-2": False}
        self.revision = 100

    def accepted(self, cluster):
        return [*self.members, "demo-gateway-1", "demo-worker-1"]

    def ask(self, minions, function, *args, limit, expected=()):
        assert function == "managed_k8s_backup.member"
        assert set(minions) == set(self.members)
        return {
            name: Answer({"leader": leader, "revision": self.revision, "size": len(self.content)}, ok=True)
            for name, leader in self.members.items()
        }

    def run(self, minion, function, ticket, limit):
        assert (minion, function) == ("demo-master-2", "managed_k8s_backup.send")
        folder = upload.Landing(self.opts, minion, ticket).folder
        manifest = {
            "kubernetes": "1.36.3", "etcd": "3.6.8", "cluster_id": "cafe", "revision": self.revision, "keys": 9,
            "count": 5, "hash": 1, "size": len(self.content), "canary": ticket, "seal": self.content[-32:].hex(),
        }  # fmt: skip
        arriving = zstd(self.spoil(self.content))
        for start in range(0, len(arriving), upload.PIECE):
            piece = folder / upload.DATABASE / f"{start // upload.PIECE:06d}"
            piece.write_bytes(self.tear(arriving[start : start + upload.PIECE]))
            time.sleep(0.05)
            if self.broken:
                raise self.broken
        files = {"manifest.json": json.dumps(manifest), "kubernetes/pki/ca.key": "k", "managed-k8s/kubeadm.yaml": "k"}
        (folder / upload.CONFIGURATION).write_bytes(packed(files))
        return manifest


def zstd(content: bytes) -> bytes:
    """Return it as zstd packs it."""
    return subprocess.run(["zstd", "--quiet", "--stdout"], input=content, check=True, capture_output=True).stdout


def packed(files: dict[str, str]) -> bytes:
    """Return a tar archive."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return sink.getvalue()


LOST = JobError("demo-master-2: managed_k8s_backup.send: the minion went silent; its answer was lost")
