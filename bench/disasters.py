"""Servers lost on purpose, and the one command that brings them back: what the parts about recovery share."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from bench.setting import BenchError, Setting

_GONE_LIMIT = 300
_LOOK = 1


def refuse_unasked(setting: Setting) -> None:
    """Raise BenchError unless the cluster may be damaged: this run made it, or `--yes` was said."""
    if not setting.replace and "creation" not in setting.found:
        raise BenchError(
            f"servers of {setting.cluster.name} would be deleted to measure how they come back. It is meant: "
            "make bench BENCH=--yes, or python -m bench --yes"
        )


@contextlib.contextmanager
def lost(setting: Setting, names: Sequence[str]) -> Iterator[None]:
    """Have servers deleted, all at once. Raises BenchError.

    The reconciler is paused meanwhile: what it would begin to make would take processor time from what is measured.
    """
    compute, servers = setting.cluster.cloud.connection.compute, setting.cluster.cloud.servers()
    ids = {servers[name]["id"] for name in names}
    setting.run("salt-run", "managed_k8s.pause", setting.cluster.name, "reason=servers are lost on purpose")
    try:
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(compute.delete_server, ids))
        end = time.monotonic() + _GONE_LIMIT
        while left := ids & {server["id"] for server in setting.cluster.cloud.servers().values()}:
            if time.monotonic() > end:
                raise BenchError(f"servers are not gone after {_GONE_LIMIT} s: {', '.join(sorted(left))}")
            time.sleep(_LOOK)
        yield
    finally:
        setting.run("salt-run", "managed_k8s.resume", setting.cluster.name)


def restore(setting: Setting) -> dict[str, Any]:
    """Bring the cluster back, as an operator does; return what the command says: `seconds`, of each of its `steps`.

    Raises BenchError when the cluster is not as it should be afterwards.
    """
    words = ("salt-run", "--out=json", "managed_k8s.restore", setting.cluster.name, "yes=True")
    said: dict[str, Any] = json.loads(setting.run(*words, capture=True))
    return {"seconds": said["seconds"], "steps": said["steps"]}
