"""Trying a backup: from the repository into a running etcd."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from managed_k8s.artifacts import etcd_programs
from managed_k8s.backup import upload
from managed_k8s.backup.digest import Seal
from managed_k8s.backup.record import Record
from managed_k8s.backup.repository import BorgError, Repository

# _modules/managed_k8s_backup.py writes it before each snapshot.
CANARY = "managed-k8s/canary"
# What a control plane cannot be made from anew.
NEEDED = (
    "kubernetes/pki/ca.crt", "kubernetes/pki/ca.key", "kubernetes/pki/etcd/ca.crt", "kubernetes/pki/etcd/ca.key",
    "kubernetes/pki/front-proxy-ca.crt", "kubernetes/pki/front-proxy-ca.key", "kubernetes/pki/sa.key",
    "kubernetes/pki/sa.pub", "kubernetes/managed-k8s/encryption.yaml", "managed-k8s/kubeadm.yaml", "manifest.json",
)  # fmt: skip
# Borg's errors that say something about the archive, not about whether it can be reached.
_DAMAGE = ("IntegrityError", "Archive.", "Repository.ObjectNotFound", "Repository.CheckNeeded", "Decompression")


def run(repository: Repository, backup: Record, programs: Path, room: Path) -> list[str]:
    """Return everything that is wrong with a backup; nothing when a cluster can be made from it.

    programs: folder with etcd's. room: an empty folder that only its owner enters. Raises BorgError when the
    repository cannot be asked.
    """
    content = room / "content"
    content.mkdir()
    try:
        repository.extract(backup.name, content)
    except BorgError as error:
        if error.kind.startswith(_DAMAGE):
            return [str(error)]
        raise
    problems = [f"{name} is missing" for name in NEEDED if not (content / name).is_file()]
    return problems + _database(content / upload.DATABASE, backup, programs, room)


def _database(snapshot: Path, backup: Record, programs: Path, room: Path) -> list[str]:
    if not snapshot.is_file():
        return [f"{upload.DATABASE} is missing"]
    seal = Seal.of(snapshot)
    if not seal.is_whole or seal.sha256 != backup.sha256:
        return [f"{upload.DATABASE} has SHA-256 {seal.sha256}; when it was made it was {backup.sha256}"]
    try:
        found = etcd_programs.status(programs, snapshot)
        wanted = {"hash": backup.hash, "revision": backup.revision, "totalKey": backup.keys}
        problems = _differences("the snapshot's", found, wanted)
        with etcd_programs.scratch(programs, snapshot, room) as ask:
            return problems + _differences("a scratch etcd's", _answers(ask), _expected(backup))
    except etcd_programs.EtcdError as error:
        return [str(error)]


def _answers(ask: Any) -> dict[str, Any]:
    canary = ask("get", CANARY).get("kvs") or [{}]
    return {
        "revision": ask("endpoint", "status")["Status"]["header"]["revision"],
        "count": ask("get", "", "--prefix", "--keys-only", "--limit=1")["count"],
        "canary": base64.b64decode(canary[0].get("value", "")).decode(errors="replace"),
    }


def _expected(backup: Record) -> dict[str, Any]:
    return {"revision": backup.revision, "count": backup.count, "canary": backup.canary}


def _differences(whose: str, found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    return [
        f"{whose} {key} is {found.get(key)}; when it was made it was {value}"
        for key, value in wanted.items()
        if found.get(key) != value
    ]
