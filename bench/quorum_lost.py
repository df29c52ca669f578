"""Two of three masters are gone for good: how long until the API answers through its address again."""

from __future__ import annotations

import concurrent.futures
import ssl
import threading
import time
from typing import Any

from bench import disasters, failover
from bench.report import Details, Figures, Row
from bench.setting import BenchError, Setting
from managed_k8s import names
from managed_k8s.kube import access
from tests.support.probes import INTERVAL, ask

MOST_SECONDS = 45
# Seconds: until an API without its quorum is silent, and for how long it has to be.
_SILENT_LIMIT, _SILENT = 120, 3


def measure(setting: Setting) -> Figures:
    """Delete all masters but the first, and restore. Raises BenchError."""
    disasters.refuse_unasked(setting)
    masters = sorted(node.id for node in setting.cluster.nodes if node.role == names.MASTER)
    if len(masters) < 3:
        raise BenchError(f"{setting.cluster.name} has {len(masters)} masters: with so few no quorum is lost to some")
    address, context = failover.api(setting)
    with disasters.lost(setting, masters[1:]):
        _await_silence(address, context)
    ended = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        answered = pool.submit(_first_answer, address, context, ended)
        try:
            done = disasters.restore(setting)
        finally:
            ended.set()
        moment = answered.result()
    if moment is None:
        raise BenchError("the API never answered at its address, though the restore says that all is well")
    return {"lost": masters[1:], "answered": round(moment - begun, 1), **done}


def _await_silence(address: str, context: ssl.SSLContext) -> None:
    end, since = time.monotonic() + _SILENT_LIMIT, time.monotonic()
    while time.monotonic() - since < _SILENT:
        if ask(address, access.PORT, context):
            since = time.monotonic()
        if time.monotonic() > end:
            raise BenchError(f"the API still answers {_SILENT_LIMIT} s after its masters were deleted")
        time.sleep(INTERVAL)


def _first_answer(address: str, context: ssl.SSLContext, ended: threading.Event) -> float | None:
    """Return when the API answered first; None when it did not until all ended."""
    while not ended.is_set():
        if ask(address, access.PORT, context):
            return time.monotonic()
        time.sleep(INTERVAL)
    return time.monotonic() if ask(address, access.PORT, context) else None


def rows(figures: Figures) -> list[Row]:
    """Return the lines of the main table."""
    seconds = figures["answered"]
    lost = len(figures["lost"])
    return [
        Row(
            f"{lost} of {lost + 1} masters gone, restore begun, until the API answers at its address",
            f"{seconds:.1f} s",
            f"{MOST_SECONDS} s",
            seconds <= MOST_SECONDS,
        ),
        Row("the same, until all masters are back and the smoke test passed", f"{figures['seconds']:.1f} s"),
    ]


def details(figures: Figures) -> list[Details]:
    """Return the steps of the restore."""
    return [steps("Quorum lost, step by step", figures["steps"])]


def steps(title: str, took: dict[str, Any]) -> Details:
    """Return a table of the steps of a restore."""
    return Details(title, ("takes",), [[step, f"{seconds:.1f} s"] for step, seconds in took.items()])
