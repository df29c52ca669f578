"""Worlds that people look at."""

import dataclasses
from typing import Any

from managed_k8s.model.cluster import Facts, Observed, Snapshot
from managed_k8s.model.membership import Member
from managed_k8s.names import GATEWAY, MASTER
from managed_k8s.status.facts import CLOUD, ETCD, KUBERNETES, PLAN, Backup, Certificate, Volume, World
from tests.support.clusters import DEMO, change, desired, healthy

NOW = 1795540000.0
DAY = 86400
CERTIFICATES = (
    Certificate("api", "an API server", NOW + 364 * DAY),
    Certificate("ca", "the cluster's authority", NOW + 3649 * DAY),
    Certificate("kubeconfig", "the Salt master's kubeconfig", NOW + 364 * DAY, renewed=NOW + 334 * DAY),
)


def listed(want=DEMO):
    return {
        node.id: {
            "id": f"id-{node.id}",
            "role": node.role,
            "status": "ACTIVE",
            "address": f"10.30.0.{n}",
            "floating_ip": f"192.0.2.{n}" if node.role == GATEWAY else None,
            "pending": False,
        }
        for n, node in enumerate(want.nodes, 10)
    }


def kubernetes_nodes(want=DEMO):
    state = {"ready": True, "version": "1.36.3", "unschedulable": False, "cordoned_by": None, "drained": False}
    return {node.id: {**state, "role": node.role} for node in want.nodes if node.role != GATEWAY}


def facts(want=DEMO, holder="demo-gateway-1"):
    return {
        name: dataclasses.replace(known, virtual_ip=name == holder) if GATEWAY in name else known
        for name, known in healthy(want).minions.items()
    }


def state(**more):
    return {"time": NOW - 100, "ready": True, "servers": [], "running": [], **more}


def well(want=DEMO, **more):
    """Return a cluster as it should be, or what changes of it say."""
    members = tuple(Member(f"a{n}", node.id) for n, node in enumerate(want.nodes) if node.role == MASTER)
    found: dict[str, Any] = {
        "cluster": "demo", "now": NOW, "wanted": want.nodes, "version": "1.36.3", "virtual_ip": "10.30.0.5",
        "public_address": "192.0.2.9", "servers": listed(want), "minions": facts(want), "api": True,
        "nodes": kubernetes_nodes(want), "members": members,
        "volumes": (Volume("pvc-1", "shop/data", "1Gi", "demo-worker-1"), Volume("pvc-2", "shop/old", "2Gi")),
        "look": Snapshot(want, healthy(want)), "certificates": CERTIFICATES,
        "backup": Backup("etcd-2026-11-24T17:00:00", NOW - 720, following=NOW + 180, drill=NOW + 9 * 3600),
        "state": state(), "seconds": 3.2,
    }  # fmt: skip
    return World(**(found | more))


def master_down():
    """Return one whose second master lost its power a moment ago, and whose reconciler looks again."""
    name, base = "demo-master-2", healthy()
    servers, nodes = listed(), kubernetes_nodes()
    servers[name]["status"] = "SHUTOFF"
    nodes[name]["ready"] = False
    observed = change(
        base,
        servers={**base.servers, name: "SHUTOFF"},
        minions={other: known for other, known in base.minions.items() if other != name},
        ready={**base.ready, name: False},
        etcd=False,
    )
    members = tuple(Member(f"a{n}", f"demo-master-{n}", healthy=n != 2) for n in (1, 2, 3))
    minions = {other: known for other, known in facts().items() if other != name}
    return well(
        servers=servers, nodes=nodes, minions=minions, members=members, look=Snapshot(DEMO, observed),
        state=state(ready=False),
    )  # fmt: skip


def api_away():
    """Return one whose gateways both lost HAProxy: nobody has the address, etcd is well."""
    base = healthy()
    observed = change(base, api=False, ready=None, etcd=False, addons=False)
    return well(
        api=False, nodes=None, volumes=None, look=Snapshot(DEMO, observed), minions=facts(holder="nobody"),
        certificates=(
            Certificate("api", "an API server", None, problem="192.0.2.9:6443: timed out"), *CERTIFICATES[1:],
        ),
        unknown={KUBERNETES: "its API does not answer"}, state=state(ready=False),
    )  # fmt: skip


def cloud_away():
    """Return one whose cloud answers with errors: minions and Kubernetes say what they know."""
    rows = [
        {"name": node.id, "server": "ACTIVE", "minion": "connected", "converged": True, "kubernetes": "Ready"}
        for node in DEMO.nodes
    ]
    why = "the cloud's API keeps on failing: try again later, nothing is lost (503)"
    plan = "the reconciler does nothing until it can ask the cloud"
    return well(servers=None, look=None, unknown={CLOUD: why, PLAN: plan}, state=state(servers=rows))


def nothing():
    """Return one of which there are settings and a map."""
    return World(
        "demo", NOW, DEMO.nodes, "1.36.3", "10.30.0.5", servers={}, minions={}, look=Snapshot(DEMO, Observed({}, {}))
    )


def silence():
    """Return one that nobody says anything about: no cloud, no Salt master, no API."""
    why = dict.fromkeys((CLOUD, "minions", KUBERNETES, ETCD, PLAN), "it does not answer")
    return World("demo", NOW, DEMO.nodes, "1.36.3", "10.30.0.5", unknown=why)


def creating():
    """Return one that is being made: a worker converges, one is missing, and a step failed before."""
    base = healthy()
    fresh = Facts(None, "none", False)
    gone = "demo-worker-2"
    observed = change(
        base,
        servers={name: status for name, status in base.servers.items() if name != gone},
        minions={**{n: f for n, f in base.minions.items() if n != gone}, "demo-worker-1": fresh},
        ready={n: r for n, r in base.ready.items() if "worker" not in n},
        smoke=None,
    )
    running = [{"id": "converge:demo-worker-1", "kind": "converge", "node": "demo-worker-1", "since": NOW - 75}]
    return well(
        servers={n: s for n, s in listed().items() if n != gone},
        nodes={n: node for n, node in kubernetes_nodes().items() if "worker" not in n},
        minions={**{n: f for n, f in facts().items() if n != gone}, "demo-worker-1": fresh},
        look=Snapshot(DEMO, observed), working=True, state=state(ready=False, running=running), volumes=(),
        attempts={"join:demo-worker-1": {"count": 2, "until": NOW + 40, "why": "kubeadm join failed"}},
    )  # fmt: skip


def large(workers=300):
    """Return one with many workers, of which one is not Ready."""
    want = desired(workers=workers)
    nodes = kubernetes_nodes(want)
    nodes["demo-worker-250"]["ready"] = False
    observed = change(healthy(want), ready={**healthy(want).ready, "demo-worker-250": False})
    return well(want, nodes=nodes, look=Snapshot(want, observed), state=state(ready=False))


WORLDS = {
    "well": well, "a master is down": master_down, "the API is away": api_away, "the cloud is away": cloud_away,
    "nothing is there": nothing, "nobody answers": silence, "it is being made": creating, "it is large": large,
}  # fmt: skip
