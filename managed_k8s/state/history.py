"""What the reconciler did: lines in the cluster's store, and events on the Salt master's bus."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import salt.utils.event

from managed_k8s import names
from managed_k8s.state.store import Store

FILE = "history.jsonl"
_MOST = 2000


def tag(cluster: str, subject: str, what: str) -> str:
    """Return the tag of an event, like `managed_k8s/demo/demo-worker-1/joined`."""
    return f"managed_k8s/{cluster}/{subject}/{what}"


class History:
    """A bounded list of what happened to a cluster, oldest first; each entry is an event too.

    opts: the Salt master's; without them (None) nothing is fired.
    """

    def __init__(self, store: Store, opts: Mapping[str, Any] | None = None) -> None:
        self._store, self._opts = store, opts

    def add(self, subject: str, what: str, reason: str, **more: Any) -> None:
        """Note and announce that something happened.

        subject: a node, `cluster`, `backup` or `volumes`. what: like `joined`. reason: a sentence without secrets.
        """
        data = {"id": self._store.cluster if names.parse(subject) is None else subject, "reason": reason, **more}
        line = json.dumps({"time": round(time.time(), 2), "subject": subject, "what": what, **data}) + "\n"
        # One write of a line: readers never see half of it.
        handle = os.open(self._store.path(FILE), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(line)
        if self._opts is not None:
            with salt.utils.event.get_master_event(self._opts, self._opts["sock_dir"], listen=False) as event:
                event.fire_event(data, tag(self._store.cluster, subject, what))

    def trim(self) -> None:
        """Forget the oldest entries; to be called while the cluster's lock is held."""
        lines = (self._store.read_text(FILE) or "").splitlines(keepends=True)
        if len(lines) > _MOST:
            self._store.write_text(FILE, "".join(lines[-_MOST // 2 :]))

    def last(self, count: int) -> list[dict[str, Any]]:
        """Return the newest entries, oldest first."""
        lines = (self._store.read_text(FILE) or "").splitlines()
        return [json.loads(line) for line in lines[-count:]] if count else []

    def follow(self, last: int = 0) -> Iterator[dict[str, Any] | None]:
        """Yield the newest entries, then others as they come, and None whenever there is none at the moment.

        last: how many of those that are there. What comes while they are used is not passed over.
        """
        path = self._store.folder / FILE
        past = path.read_bytes() if path.exists() else b""
        position = len(past)
        yield from (json.loads(line) for line in past.splitlines()[-last:] if last)
        while True:
            size = path.stat().st_size if path.exists() else 0
            # A trimmed file begins anew.
            position = 0 if size < position else position
            if size == position:
                yield None
                continue
            with path.open() as file:
                file.seek(position)
                lines = file.readlines()
                position = file.tell()
            yield from (json.loads(line) for line in lines)
