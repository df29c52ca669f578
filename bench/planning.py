"""How long planning takes, by the number of nodes."""

from __future__ import annotations

import timeit

from bench.report import Details, Figures, Row
from bench.setting import Setting
from managed_k8s.model.cluster import Desired, Facts, Observed
from managed_k8s.names import GATEWAY, MASTER, WORKER, Node
from managed_k8s.plan import plan, waiting

CLUSTER = "demo"
NODES = (10, 100, 1000, 5000)
MOST_SECONDS = 0.1
_REPEATS = 5
# More of this than in proportion to the nodes is not linear.
_MOST_CURVE = 1.5


def nodes(count: int) -> list[Node]:
    """Return the nodes of a cluster of so many servers, at least 6."""
    counts = {GATEWAY: 2, MASTER: 3, WORKER: count - 5}
    return [Node(CLUSTER, role, number + 1) for role, many in counts.items() for number in range(many)]


def world(count: int) -> tuple[Desired, Observed]:
    """Return a cluster of so many servers, all connected, to whom nothing was done yet."""
    every = tuple(nodes(count))
    names = [node.id for node in every]
    desired = Desired(CLUSTER, every, {name: f"revision of {name}" for name in names}, "resources", "smoke")
    return desired, Observed(dict.fromkeys(names, "ACTIVE"), dict.fromkeys(names, Facts(etcd_data=False)))


def measure(_: Setting) -> Figures:
    """Plan for each number of nodes."""
    return {"runs": [_measure(count) for count in NODES]}


def _measure(count: int) -> dict[str, float]:
    desired, observed = world(count)
    steps = len(plan(desired, observed))
    seconds = min(
        timeit.repeat(lambda: (plan(desired, observed), waiting(desired, observed)), number=1, repeat=_REPEATS)
    )
    return {"nodes": count, "steps": steps, "seconds": round(seconds, 6)}


def rows(figures: Figures) -> list[Row]:
    """Return the lines of the main table."""
    runs = figures["runs"]
    lines = []
    for run in runs:
        promised = run["nodes"] == 1000
        lines.append(
            Row(
                f"plan for {run['nodes']:,} nodes, {run['steps']:,} steps",
                f"{run['seconds'] * 1000:.1f} ms",
                f"{MOST_SECONDS * 1000:.0f} ms" if promised else "",
                run["seconds"] <= MOST_SECONDS if promised else None,
            )
        )
    most, before = runs[-1], runs[-2]
    larger, times = most["nodes"] / before["nodes"], most["seconds"] / before["seconds"]
    what = f"plan for {most['nodes']:,} nodes, times that for {before['nodes']:,}"
    limit = larger * _MOST_CURVE
    return [*lines, Row(what, f"{times:.1f}", f"{larger:.0f} is linear; {limit:.1f}", times <= limit)]


def details(_: Figures) -> list[Details]:
    """Return no further tables."""
    return []
