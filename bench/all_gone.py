"""Every server is gone: how long until the cluster is smoke-tested again, against its first creation."""

from __future__ import annotations

import time

from bench import disasters, ours, quorum_lost, report
from bench.report import Details, Figures, Row
from bench.setting import BenchError, Setting
from managed_k8s.state.history import History

MOST_TIMES = 2
_ALL = 2000


def measure(setting: Setting) -> Figures:
    """Take a backup, delete every server, and restore. Raises BenchError."""
    disasters.refuse_unasked(setting)
    creation = setting.found.get("creation") or report.load().get("creation", {}).get("figures")
    if not creation:
        raise BenchError("nobody knows how long the first creation took; measure that too: --only creation")
    setting.run("salt-run", "managed_k8s.backup", setting.cluster.name, "reason=everything is lost on purpose")
    with disasters.lost(setting, sorted(setting.cluster.cloud.servers())):
        begun = time.time()
    done = disasters.restore(setting)
    passed = ours.smoke_tested(History(setting.cluster.store).last(_ALL), begun)
    return {"tested": round(passed - begun, 1), "creation": creation["ours"]["seconds"], **done}


def rows(figures: Figures) -> list[Row]:
    """Return the lines of the main table."""
    seconds, creation = figures["tested"], figures["creation"]
    times = seconds / creation
    return [
        Row("every server gone, restore begun, until smoke-tested", f"{seconds:.1f} s"),
        Row("the same, times the first creation", f"{times:.2f}", f"{MOST_TIMES}", times <= MOST_TIMES),
    ]


def details(figures: Figures) -> list[Details]:
    """Return the steps of the restore."""
    return [quorum_lost.steps("Every server gone, step by step", figures["steps"])]
