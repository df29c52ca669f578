"""Clusters that are planned for: one that is healthy, what is changed of it, and any that there may be."""

import dataclasses

from hypothesis import strategies as st

from managed_k8s.model import cluster as model
from managed_k8s.model.cluster import Desired, Facts, Marker, Observed
from managed_k8s.names import GATEWAY, MASTER, WORKER, Node


def desired(gateways=2, masters=3, workers=2):
    counts = {GATEWAY: gateways, MASTER: masters, WORKER: workers}
    nodes = tuple(Node("demo", role, n + 1) for role, count in counts.items() for n in range(count))
    revisions = {node.id: f"revision of {node.id}" for node in nodes}
    return Desired("demo", nodes, revisions, "resources", "smoke", "infrastructure")


DEMO = desired()
NAMES = [node.id for node in DEMO.nodes]
FIRST = "demo-master-1"
FRESH = Facts(None, model.NONE, False)


def servers(*names):
    return dict.fromkeys(names or NAMES, "ACTIVE")


def healthy(want=DEMO):
    def facts(node):
        done = model.NONE if node.role == GATEWAY else model.INITIALISED if node.id == FIRST else model.JOINED
        return Facts(want.revisions[node.id], done, node.role == MASTER)

    return Observed(
        servers={node.id: "ACTIVE" for node in want.nodes},
        minions={node.id: facts(node) for node in want.nodes},
        known=frozenset(node.id for node in want.nodes),
        marker=Marker(FIRST, finished=True),
        api=True,
        access=True,
        ready={node.id: True for node in want.nodes if node.role != GATEWAY},
        etcd=True,
        addons=True,
        resources="resources",
        smoke="smoke",
        infrastructure="infrastructure",
    )


def change(observed, **changes):
    return dataclasses.replace(observed, **changes)


def with_facts(observed, name, **changes):
    minions = dict(observed.minions)
    minions[name] = dataclasses.replace(minions[name], **changes)
    return change(observed, minions=minions)


def ids(steps):
    return [step.id for step in steps]


def of_kind(steps, *kinds):
    return [step for step in steps if step.kind in kinds]


# Random ones

FACTS = st.builds(
    Facts,
    st.sampled_from([None, "old", "current"]),
    st.sampled_from([model.NONE, model.PARTIAL, model.INITIALISED, model.JOINED]),
    st.sampled_from([None, False, True]),
)


@st.composite
def worlds(draw):
    names = st.sampled_from([*NAMES, "demo-master-7", "demo-worker-9"])
    return Observed(
        servers=draw(st.dictionaries(names, st.sampled_from(["ACTIVE", "BUILD", "ERROR", "SHUTOFF"]))),
        minions=draw(st.dictionaries(names, FACTS)),
        known=draw(st.frozensets(names)),
        marker=draw(st.none() | st.builds(Marker, st.none() | names, st.booleans())),
        api=draw(st.booleans()),
        access=draw(st.booleans()),
        ready=draw(st.none() | st.dictionaries(names, st.booleans())),
        etcd=draw(st.booleans()),
        addons=draw(st.booleans()),
        resources=draw(st.sampled_from([None, "resources"])),
        smoke=draw(st.sampled_from([None, "smoke"])),
        infrastructure=draw(st.sampled_from([None, "infrastructure"])),
    )
