"""Servers come and go by cluster.map and by name: in the right order, never below the quorum, while the API answers.

The Salt master runs from a copy of the checkout meanwhile, whose map is edited. At most nine servers are there at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import time

import pytest
import yaml
from kubernetes.client import AppsV1Api, CoreV1Api, PolicyV1Api

from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.kube.smoke import pods, workspace
from managed_k8s.state.history import History
from tests.support.asking import Asking, is_ready
from tests.support.checkout import Cluster
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(5400)

# Seconds for which the API may be away while masters and gateways come and go, on a busy machine.
GAP = 20
# Seconds that budgets have.
DRAIN = 20
GATEWAY, MASTER, WORKER = "gateway", "master", "worker"


@dataclasses.dataclass(frozen=True)
class Scaled:
    """The cluster, and its map."""

    cluster: Cluster

    @property
    def map(self):
        return self.cluster.checkout.root / "cluster.map"

    def have(self, role, *numbers):
        """Have these servers of a role in the map."""
        content = yaml.safe_load(self.map.read_text())
        content[f"demo-{role}"] = [f"demo-{role}-{number}" for number in numbers]
        self.map.write_text(yaml.safe_dump(content))

    def make(self):
        """Make what the map has more."""
        self.cluster.checkout.run("salt-cloud", "-y", "-m", "cluster.map", timeout=1800)
        self.settle()

    def shrink(self):
        """Remove what the map has no more."""
        answer = self.cluster.verb("reconcile", "yes=True", timeout=3600)
        assert "error" not in answer, answer
        self.settle()

    def settle(self):
        """Wait until all is as it should be."""
        self.cluster.checkout.run("salt-run", "managed_k8s.wait", "demo", "timeout=3600", timeout=3700)
        found = self.cluster.verb("plan")
        assert (found["steps"], found["waiting"]) == ([], [])

    @contextlib.contextmanager
    def answering(self):
        """See to it that the API answers throughout."""
        started = time.monotonic()
        with Asking(is_ready(self.cluster.public_address, str(self.cluster.store.folder / "ca.crt"))) as asking:
            yield
        print(f"{time.monotonic() - started:.0f} s, longest gap of the API {asking.gap:.1f} s")
        assert asking.gap < GAP

    def happened(self, name, since):
        """Return what was done to a server since, in order."""
        kinds = ("drained", "left_etcd", "removed", "created", "converged", "joined")
        entries = History(self.cluster.store).last(100_000)
        found = [e["what"] for e in entries if e["subject"] == name and e["time"] >= since and e["what"] in kinds]
        # What converges more than once does so for its neighbours' sake.
        return list(dict.fromkeys(found))

    def nodes(self):
        return kube_nodes.nodes(self.cluster.api)

    def members(self):
        """Return etcd's members, as a master sees them: name -> whether it is healthy and votes."""
        master = self.cluster.names(MASTER)[0]
        told = self.cluster.checkout.salt(master, "managed_k8s_etcd.members")[master]
        return {member["name"]: member["healthy"] and member["voter"] for member in told}

    def backends(self):
        """Return gateway -> the masters that it leads to."""
        script = "grep -o 'server demo-master-[0-9]*' /etc/haproxy/haproxy.cfg | cut -d' ' -f2"
        return {name: sorted(self.cluster.ssh(name, script).split()) for name in self.cluster.names(GATEWAY)}

    def has_masters(self, count):
        """See to it that etcd and the gateways have so many masters, and no others."""
        masters = [f"demo-master-{number}" for number in range(1, count + 1)]
        assert self.members() == dict.fromkeys(masters, True)
        assert self.backends() == dict.fromkeys(self.cluster.names(GATEWAY), masters)

    def leader(self):
        """Return the master whose etcd leads."""
        told = self.cluster.checkout.salt("demo-master-*", "managed_k8s_backup.member")
        (found,) = [name for name, member in told.items() if member["leader"]]
        return found

    def keys(self):
        """Return the minions that the Salt master accepts."""
        said = self.cluster.checkout.run("salt-key", "--list=accepted", "--out=json").stdout
        return set(json.loads(said)["minions"])


@pytest.fixture(scope="module")
def scaled(demo, cloud, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scaling")
    copy = demo.checkout.copy(folder / "checkout")
    settings = copy.root / "pillar/clusters/demo.sls"
    content = yaml.safe_load(settings.read_text())
    content["managed_k8s"].setdefault("maintenance", {})["drain_seconds"] = DRAIN
    settings.write_text(yaml.safe_dump(content))
    copy.start_master()
    made = Scaled(Cluster.of(copy, "demo", cloud, folder))
    before = made.map.read_text()
    yield made
    made.map.write_text(before)
    copy.run("salt-run", "managed_k8s.reconcile", "demo", "yes=True", check=False, timeout=3600)
    demo.checkout.start_master()
    demo.checkout.run("salt-run", "managed_k8s.wait", "demo", "timeout=1800", timeout=1900)


@pytest.fixture
def kept_map(scaled):
    """The map, as it was afterwards."""
    before = scaled.map.read_text()
    yield
    scaled.map.write_text(before)


def test_settings_of_maintenance_change_no_server(scaled):
    assert scaled.cluster.verb("plan")["steps"] == []


@pytest.mark.parametrize(
    ("role", "numbers", "words"),
    [
        (GATEWAY, (), "demo has no gateway"),
        (MASTER, (1, 2), "demo has 2 masters; etcd needs 1, 3 or 5"),
        (MASTER, (), "demo has 0 masters"),
    ],
)
def test_a_map_that_no_cluster_can_have_changes_nothing(scaled, kept_map, role, numbers, words):
    before = set(scaled.cluster.servers)
    scaled.have(role, *numbers)
    answer = scaled.cluster.verb("reconcile", "yes=True")
    assert answer["retcode"] == 1
    assert words in answer["error"]
    assert set(scaled.cluster.servers) == before


def test_a_worker_comes(scaled):
    since = time.time()
    scaled.have(WORKER, 1, 2, 3)
    scaled.make()
    assert scaled.nodes()["demo-worker-3"]["ready"]
    assert "joined" in scaled.happened("demo-worker-3", since)


def test_a_map_that_lost_a_name_removes_nothing_unasked(scaled):
    scaled.have(WORKER, 1, 2)
    said = scaled.cluster.verb("plan")
    assert not [step for step in said["steps"] if "demo-worker-3" in step]
    assert any(text.startswith("demo-worker-3: is not in cluster.map") for text in said["waiting"])
    answer = scaled.cluster.verb("reconcile")
    assert answer["retcode"] == 1
    assert "nobody can be asked here" in answer["error"]
    assert "demo-worker-3" in scaled.cluster.servers


def test_a_worker_goes(scaled):
    since = time.time()
    scaled.shrink()
    assert scaled.happened("demo-worker-3", since) == ["drained", "removed"]
    assert "demo-worker-3" not in {*scaled.cluster.servers, *scaled.nodes(), *scaled.keys()}


@pytest.fixture
def space(scaled):
    made = workspace.Workspace(scaled.cluster.api, f"e2e-scaling-{secrets.token_hex(3)}")
    made.core.create_namespace({"metadata": {"name": made.namespace}})
    yield made
    made.remove()


def bind(space, node):
    """Run a pod on a node that its budget never lets go."""
    labels = {"app": "web"}
    pod = pods.on(pods.server(space.image()), node)["spec"] | {"restartPolicy": "Always"}
    template = {"metadata": {"labels": labels}, "spec": pod}
    body = {"metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
    apps = AppsV1Api(space.api)
    apps.create_namespaced_deployment(space.namespace, body)
    budget = {"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}}}
    PolicyV1Api(space.api).create_namespaced_pod_disruption_budget(space.namespace, budget)
    eventually(lambda: apps.read_namespaced_deployment("web", space.namespace).status.ready_replicas == 1, 120)


def by_hand(space, node, specification):
    """Change a Node as kubectl does."""
    CoreV1Api(space.api).patch_node(node, {"spec": specification}, _content_type="application/merge-patch+json")


def test_a_budget_is_respected_and_who_cordoned_is_remembered(scaled, space):
    node, data = "demo-worker-2", scaled.cluster.checkout.data
    bind(space, node)
    refused = data("drain", node)
    assert refused["retcode"] == 1
    assert f"{space.namespace}/web" in refused["error"]
    assert f"salt-run managed_k8s.uncordon {node}" in refused["error"]
    assert scaled.nodes()[node]["cordoned_by"] == "operator"
    notes = {one["name"]: one["notes"] for one in scaled.cluster.verb("status")["nodes"]}
    assert "cordoned by managed_k8s.drain" in notes[node]
    assert data("uncordon", node)["changed"] is True
    assert not scaled.nodes()[node]["unschedulable"]

    PolicyV1Api(space.api).delete_namespaced_pod_disruption_budget("web", space.namespace)
    by_hand(space, node, {"unschedulable": True})
    assert data("drain", node)["cordoned"] is False, "kubectl had cordoned it"
    refused = data("uncordon", node)
    assert refused["retcode"] == 1
    assert "was not cordoned by managed_k8s.drain" in refused["error"]
    by_hand(space, node, {"unschedulable": None})


def replaced(scaled, name):
    """Have a server replaced; return what was done to it."""
    before, since = scaled.cluster.servers[name]["id"], time.time()
    with scaled.answering():
        answer = scaled.cluster.checkout.data("replace", name, "reason=a test")
        assert answer["retcode"] == 0, answer
        scaled.settle()
    assert scaled.cluster.servers[name]["id"] != before
    return scaled.happened(name, since)


def test_a_worker_is_replaced_though_a_budget_holds_a_pod_on_it(scaled, space):
    bind(space, "demo-worker-1")
    done = replaced(scaled, "demo-worker-1")
    assert [what for what in done if what != "converged"] == ["drained", "removed", "created", "joined"]
    assert scaled.nodes()["demo-worker-1"]["ready"]


@pytest.mark.parametrize("leads", [False, True], ids=["follower", "leader"])
def test_a_master_is_replaced(scaled, leads):
    leader = scaled.leader()
    name = leader if leads else next(name for name in scaled.cluster.names(MASTER) if name != leader)
    done = replaced(scaled, name)
    assert [what for what in done if what != "converged"] == ["drained", "left_etcd", "removed", "created", "joined"]
    assert scaled.members() == dict.fromkeys(scaled.cluster.names(MASTER), True)


def test_a_gateway_is_replaced(scaled):
    done = replaced(scaled, scaled.cluster.names(GATEWAY)[0])
    assert done == ["removed", "created", "converged"]
    assert set(map(len, scaled.backends().values())) == {3}


def test_what_would_cost_the_quorum_is_refused(scaled, cloud):
    second, third = scaled.cluster.names(MASTER)[1:]
    server = scaled.cluster.servers[second]["id"]
    assert scaled.cluster.verb("pause", "reason=a test")["retcode"] == 0
    try:
        cloud.compute.stop_server(server)
        eventually(lambda: cloud.compute.get_server(server).status == "SHUTOFF", 180, interval=2)
        refused = scaled.cluster.checkout.data("replace", third)
        assert refused["retcode"] == 1
        assert "etcd would lose its quorum" in refused["error"]
        assert scaled.cluster.store.read("condemned.json") in (None, {})
    finally:
        cloud.compute.start_server(server)
        assert scaled.cluster.verb("resume")["retcode"] == 0
    eventually(lambda: set(scaled.members().values()) == {True}, 300, interval=5)
    scaled.settle()


def test_one_master_is_left(scaled):
    since = time.time()
    scaled.have(MASTER, 1)
    with scaled.answering():
        scaled.shrink()
    for name in ("demo-master-2", "demo-master-3"):
        assert scaled.happened(name, since) == ["drained", "left_etcd", "removed"]
    scaled.has_masters(1)


def test_one_master_becomes_three(scaled):
    scaled.have(MASTER, 1, 2, 3)
    with scaled.answering():
        scaled.make()
    scaled.has_masters(3)


def test_masters_become_five(scaled):
    scaled.have(MASTER, 1, 2, 3, 4, 5)
    with scaled.answering():
        scaled.make()
    scaled.has_masters(5)


def test_masters_become_three_again(scaled):
    since = time.time()
    scaled.have(MASTER, 1, 2, 3)
    with scaled.answering():
        scaled.shrink()
    for name in ("demo-master-4", "demo-master-5"):
        assert scaled.happened(name, since) == ["drained", "left_etcd", "removed"]
        assert name not in {*scaled.cluster.servers, *scaled.nodes(), *scaled.keys()}
    scaled.has_masters(3)


def test_the_last_gateway_stays(scaled):
    scaled.have(GATEWAY, 1)
    with scaled.answering():
        scaled.shrink()
    assert scaled.cluster.names(GATEWAY) == ["demo-gateway-1"]
    refused = scaled.cluster.checkout.data("replace", "demo-gateway-1")
    assert refused["retcode"] == 1
    assert "is the last gateway that serves" in refused["error"]
    refused = scaled.cluster.checkout.data("reboot", "node=demo-gateway-1")
    assert refused["retcode"] == 1
    assert "is the only gateway" in refused["error"]


def test_a_second_gateway_comes(scaled):
    scaled.have(GATEWAY, 1, 2)
    with scaled.answering():
        scaled.make()
    assert set(map(len, scaled.backends().values())) == {3}
    assert scaled.cluster.verb("smoke")["ok"]
