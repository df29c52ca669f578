"""Checks of persistent volumes: what one node writes, another reads, and a snapshot brings back."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from managed_k8s.kube.smoke import pods
from managed_k8s.kube.smoke.check import Check, FailedError, perform
from managed_k8s.kube.smoke.workspace import Workspace

_LIMIT = 180


def run(space: Workspace, image: str, nodes: tuple[str, str], report: Callable[[Check], None]) -> None:
    """Write on one node; then read on the other and restore a snapshot, side by side; report each.

    nodes: where it is written and where it is read.
    """
    token = secrets.token_hex(8)

    def write() -> str:
        space.create(pods.claim("data"))
        space.create(pods.on(pods.writer(image, token), nodes[0]))
        space.wait_done("writer", _LIMIT)
        return f"volume made, attached to {nodes[0]}, written"

    def move() -> str:
        space.create(pods.on(pods.reader(image, "reader", "data"), nodes[1]))
        _compare(token, space.wait_done("reader", _LIMIT))
        return f"moved to {nodes[1]}, the same content"

    def restore() -> str:
        space.create(pods.snapshot("data", "data"))
        space.wait_snapshot("data", _LIMIT)
        space.create(pods.claim("restored", snapshot="data"))
        space.create(pods.on(pods.reader(image, "restored", "restored"), nodes[0]))
        _compare(token, space.wait_done("restored", _LIMIT))
        return "snapshot made, restored as a volume, the same content"

    written = perform("a pod writes on a new volume", write)
    report(written)
    checks = {"another node reads it": move, "a snapshot of it is restored": restore}
    if not written.ok:
        for name in checks:
            report(Check(name, False, "not tried: nothing was written", 0.0))
        return
    with ThreadPoolExecutor(len(checks)) as pool:
        list(pool.map(lambda item: report(perform(*item)), checks.items()))


def _compare(written: str, read: str) -> None:
    if read != written:
        raise FailedError(f"read {read!r}, not what was written, {written!r}")
