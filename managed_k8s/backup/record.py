"""What is known of a backup: kept with it, as the archive's comment, so that the repository alone tells all."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from typing import Any

PREFIX = "etcd-"


@dataclasses.dataclass(frozen=True)
class Record:
    """A backup of a cluster's etcd and control plane.

    time: when it was begun, in seconds since 1970. member: where. reason: why. revision, keys, hash, size: of the
    snapshot, as `etcdutl snapshot status` says. count: keys at that revision, as etcd itself said. sha256: of the file.
    canary: what the canary key held. cluster_id: etcd's own, in hexadecimal. proven: whether a drill restored it.
    problem: what one found wrong with it.
    """

    name: str
    time: float
    member: str
    reason: str
    kubernetes: str
    etcd: str
    cluster_id: str
    revision: int
    keys: int
    count: int
    hash: int
    size: int
    sha256: str
    canary: str
    proven: bool = False
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is known against it: each was checked when it was made."""
        return not self.problem

    def comment(self) -> str:
        """Return what the archive keeps."""
        content = dataclasses.asdict(self)
        for what in ("name", "proven", "problem"):
            del content[what]
        return json.dumps(content, sort_keys=True)


def name(time: float) -> str:
    """Return what a backup that was begun then is called."""
    return PREFIX + datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def is_unfinished(archive: Mapping[str, Any]) -> bool:
    """Return whether an archive is one of ours without a comment: it gets that once everything about it is in order."""
    return str(archive["name"]).startswith(PREFIX) and not archive["comment"]


def read(archive: Mapping[str, Any]) -> Record | None:
    """Return an archive's record, or None when it is none of ours."""
    called = str(archive["name"])
    if not called.startswith(PREFIX):
        return None
    try:
        return Record(name=called, **json.loads(archive["comment"]))
    except (ValueError, TypeError):
        return None
