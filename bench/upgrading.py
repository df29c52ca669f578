"""How long the upgrade to the next minor version takes, and what a workload and the API's clients notice of it."""

from __future__ import annotations

import secrets
import time
from typing import Any

from bench.failover import probing
from bench.report import Details, Figures, Row
from bench.setting import BenchError, Setting
from managed_k8s.artifacts import mirror
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.kube.smoke import check
from managed_k8s.kube.smoke.workspace import Workspace
from managed_k8s.operations import reconcile as reconciling
from tests.support.workload import Workload

BEFORE, AFTER = "1.36.3", "1.37.2"
# Seconds: for the whole of it; between probes, as nodes need the machine's processors; until a write has failed.
_LIMIT, _INTERVAL, _PATIENCE = 5400, 0.5, 2


def measure(setting: Setting) -> Figures:
    """Upgrade, while a workload is written to and the API is asked. Raises BenchError.

    Where there is nothing to upgrade from, or to, that is what is found.
    """
    if not reconciling.look(setting.opts, setting.cluster.name).ready:
        raise BenchError("the cluster is not as it should be, so it is not upgraded: salt-run managed_k8s.status")
    nodes = kube_nodes.nodes(setting.cluster.kube.connect())
    why = _unfit(setting, sorted({str(node["version"]) for node in nodes.values()}))
    return {"not_measured": why} if why else {"nodes": len(nodes), **_upgrade(setting)}


def _unfit(setting: Setting, versions: list[str]) -> str:
    if versions != [BEFORE]:
        return f"the cluster runs {', '.join(versions)}"
    try:
        mirror.fetch(f"{setting.cluster.settings.artifacts.url}/kubernetes/{AFTER}/{mirror.SUMS}")
    except mirror.MirrorError:
        return f"the mirror has no {AFTER}"
    return ""


def _upgrade(setting: Setting) -> dict[str, Any]:
    name = setting.cluster.name
    space = Workspace(setting.cluster.kube.connect(), f"bench-upgrade-{secrets.token_hex(3)}")
    space.core.create_namespace({"metadata": {"name": space.namespace}})
    workload = Workload(space, _PATIENCE)
    try:
        try:
            workload.start()
        except check.FailedError as error:
            raise BenchError(f"the workload does not start: {error}") from None
        with probing(setting, _INTERVAL) as api:
            begun = time.monotonic()
            setting.run("salt-run", "managed_k8s.upgrade", name, f"version={AFTER}")
            asked = time.monotonic() - begun
            setting.run("salt-run", "managed_k8s.wait", name, f"timeout={_LIMIT}")
            seconds = time.monotonic() - begun
        counted = workload.written().values()
    finally:
        space.remove()
    return {
        "seconds": round(seconds, 1),
        "asked": round(asked, 1),
        "writes": sum(count for count, _ in counted),
        "failed": [line for _, lines in counted for line in lines],
        "api": {"probes": api.summary.probes, "failed": api.summary.failed, "gap": round(api.summary.gap, 2)},
    }


def rows(figures: Figures) -> list[Row]:
    """Return the lines of the main table."""
    what = f"upgrade {BEFORE} to {AFTER}"
    if "not_measured" in figures:
        return [Row(what, f"not measured: {figures['not_measured']}")]
    failed, api = len(figures["failed"]), figures["api"]
    return [
        Row(f"{what} of {figures['nodes']} nodes, backup and smoke test included", f"{figures['seconds']:.0f} s"),
        Row(
            "writes through a service with a PodDisruptionBudget that failed meanwhile",
            f"{failed} of {figures['writes']:,}",
            "0",
            failed == 0,
        ),
        Row("API gap meanwhile", f"{api['gap']:.2f} s, {api['failed']} of {api['probes']:,} probes failed"),
    ]


def details(_: Figures) -> list[Details]:
    """Return no further tables."""
    return []
