"""What is known of a backup: kept with it, as the archive's comment, so that the repository alone tells all."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from typing import Any

PREFIX = "etcd-"
# An archive has this name until everything about it is in order.
UNFINISHED = "unfinished-"


@dataclasses.dataclass(frozen=True)
class Record:
    """A backup of a cluster's etcd and control plane.

    time: when it was begun, in seconds since 1970. member: where. reason: why. revision, keys, hash, size: of the
    snapshot, as `etcdutl snapshot status` says. count: keys at that revision, as etcd itself said. sha256: of the file.
    canary: what the canary key held. cluster_id: etcd's own, in hexadecimal. problem: what a later check found wrong.
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
    problem: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is known against it: each was checked when it was made."""
        return not self.problem

    def comment(self) -> str:
        """Return what the archive keeps."""
        content = dataclasses.asdict(self)
        del content["name"], content["problem"]
        return json.dumps(content, sort_keys=True)


def name(time: float) -> str:
    """Return what a backup that was begun then is called."""
    return PREFIX + datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")


def read(archive: Mapping[str, Any], problems: Mapping[str, str]) -> Record | None:
    """Return an archive's record, or None when it is none of ours.

    problems: archive name -> what a check found wrong with it.
    """
    called = str(archive["name"])
    if not called.startswith(PREFIX):
        return None
    try:
        return Record(name=called, problem=problems.get(called, ""), **json.loads(archive["comment"]))
    except (ValueError, TypeError):
        return None
