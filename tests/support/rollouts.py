"""Clusters whose version changes."""

import dataclasses

from managed_k8s.model.cluster import Desired, Facts, Marker, Observed
from managed_k8s.model.rollout import Rollout, Versions
from managed_k8s.names import GATEWAY, MASTER, WORKER, Node
from tests.support.clusters import change

OLD, NEW = "1.36.3", "1.37.2"


def desired(masters=3, workers=4, gateways=2):
    counts = {GATEWAY: gateways, MASTER: masters, WORKER: workers}
    nodes = tuple(Node("demo", role, n + 1) for role, count in counts.items() for n in range(count))
    return Desired("demo", nodes, dict.fromkeys((node.id for node in nodes), "current"), "resources", "smoke")


DEMO = desired()
MASTERS = [f"demo-master-{n}" for n in (1, 2, 3)]
WORKERS = [f"demo-worker-{n}" for n in (1, 2, 3, 4)]


def running(want=DEMO, **rollout):
    """A cluster that is well and runs the old version."""
    names = [node.id for node in want.nodes]
    nodes = [node.id for node in want.nodes if node.role != GATEWAY]
    masters = [node.id for node in want.nodes if node.role == MASTER]
    versions = Versions(OLD, dict.fromkeys(masters, OLD), dict.fromkeys(nodes, OLD))
    return Observed(
        servers=dict.fromkeys(names, "ACTIVE"),
        minions={name: Facts("current", "joined" if name in nodes else "none", boot="before") for name in names},
        known=frozenset(names),
        marker=Marker(masters[0], finished=True),
        api=True,
        access=True,
        ready=dict.fromkeys(nodes, True),
        etcd=True,
        addons=True,
        resources="resources",
        smoke="smoke",
        rollout=Rollout(**{"target": OLD, "versions": versions} | rollout),
    )


def rolling(observed, **changes):
    return change(observed, rollout=dataclasses.replace(observed.rollout, **changes))


def runs(observed, config=None, control_planes=None, kubelets=None):
    before = observed.rollout.versions
    after = Versions(
        config or before.config,
        {**before.control_planes, **(control_planes or {})},
        {**before.kubelets, **(kubelets or {})},
    )
    return rolling(observed, versions=after)
