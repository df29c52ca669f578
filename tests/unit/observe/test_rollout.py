"""How far a rollout is, from what API, minions and store say; and until when certificates are good."""

from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException

from managed_k8s.kube import node_annotations, versions
from managed_k8s.model.certificates import CertificateExpiry as Expiry
from managed_k8s.model.rollout import Rollout, Versions
from managed_k8s.model.steps import KUBELET, MAINTAIN, UPGRADE
from managed_k8s.observe import rollout
from managed_k8s.state import certificates
from managed_k8s.state.rollout import Record
from managed_k8s.state.store import Store
from tests.support.settings import settings

OLD, NEW, DAY = "1.36.3", "1.37.2", 86400
SETTINGS = settings(kubernetes={"version": OLD}, maintenance={"worker_batch": 2, "certificate_days": 30})
RUNS = Versions(OLD, {"demo-master-1": OLD}, {"demo-master-1": OLD, "demo-worker-1": OLD})
NODES: dict[str, Any] = {name: {"cordoned_by": None, "version": OLD} for name in RUNS.kubelets}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "demo")


def compose(store, written=OLD, running=RUNS, nodes=NODES, ends=None, now=0.0) -> Rollout:
    return rollout.compose(store, SETTINGS, written, nodes, running, ends or {}, now)


def test_a_cluster_is_to_stay_as_it_is(store):
    found = compose(store)
    assert (found.target, found.batch, found.notes) == (OLD, 2, ())
    assert compose(store, running=Versions()).target == "", "nobody could be asked"


def test_what_is_under_way(store):
    record = Record(store)
    record.ask(NEW, OLD, "etcd-1", OLD)
    record.begin("demo-master-1", UPGRADE)
    record.begin("demo-worker-9", KUBELET)
    record.ask_maintenance({"demo-worker-1": "boot"}, packages=True)
    cordoned = {**NODES, "demo-worker-1": {"cordoned_by": node_annotations.MAINTENANCE}}
    found = compose(store, nodes=cordoned)
    assert found.target == NEW
    assert found.begun == {"demo-master-1": UPGRADE}, "of worker 9 there is nothing left"
    assert found.cordoned == {"demo-worker-1"}
    assert found.maintenance == {"demo-worker-1": "upgrade the packages of, and reboot,"}


def test_what_was_begun_on_a_node_ends_with_it(store):
    """Its successor has a minion, but no Node yet: it converges and joins like any other."""
    record = Record(store)
    record.begin("demo-worker-2", KUBELET)
    record.begin("demo-master-2", UPGRADE)
    record.begin("demo-gateway-1", MAINTAIN)
    ends = {
        "demo-worker-2": Expiry(),
        "demo-master-2": Expiry(),
        "demo-gateway-1": Expiry(),
    }
    assert compose(store, ends=ends).begun == {"demo-gateway-1": MAINTAIN}
    assert compose(store).begun == {"demo-gateway-1": MAINTAIN}, "while it boots its minion is silent"


def test_who_goes_back_is_told_how_to_go_on(store):
    Record(store).ask(NEW, OLD, "etcd-1", OLD)
    Record(store).halt(True)
    assert "salt-run managed_k8s.upgrade demo version=1.37.2" in compose(store).halted
    Record(store).halt(False)
    assert compose(store).halted == ""


@pytest.mark.parametrize(
    ("written", "runs", "upgrade", "words"),
    [
        (OLD, OLD, {}, ""),
        (NEW, OLD, {}, "to begin: salt-run managed_k8s.upgrade demo version=1.37.2"),
        (NEW, OLD, {"version": NEW, "written": NEW}, ""),
        (OLD, NEW, {"version": NEW, "written": OLD}, ""),
        (OLD, NEW, {"version": NEW, "written": NEW}, "is older than what runs, 1.37.2"),
        (OLD, "", {}, ""),
    ],
)
def test_a_settings_file_that_names_another_version_is_told_of(written, runs, upgrade, words):
    found = rollout.notes("demo", written, runs, upgrade)
    assert bool(found) == bool(words)
    assert all(words in sentence for sentence in found)


def test_masters_certificates_are_renewed_in_time(store):
    ends = {
        "demo-master-1": Expiry(control_plane=29.5 * DAY),
        "demo-master-2": Expiry(control_plane=30.5 * DAY),
        "demo-master-3": Expiry(control_plane=-0.5 * DAY),
        "demo-master-4": Expiry(control_plane=300 * DAY, renewing=True),
        "demo-worker-1": Expiry(kubelet=DAY),
    }
    assert compose(store, ends=ends).expiring == {"demo-master-1": 29, "demo-master-3": -1, "demo-master-4": 0}


def test_what_a_minion_tells_is_taken_for_numbers_only():
    assert Expiry.of({"control_plane": 5, "kubelet": "soon", "renewing": "yes"}) == Expiry(control_plane=5.0)
    assert Expiry.of("no such function") == Expiry()


def test_what_is_said_of_certificates(store):
    certificates.remember(
        store,
        {
            "demo-master-1": Expiry(control_plane=40 * DAY, kubelet=200 * DAY, authority=170 * DAY),
            "demo-worker-1": Expiry(kubelet=10 * DAY, authority=170 * DAY),
        },
    )
    found = certificates.problems(store, 30, now=0.0)
    assert [sentence.partition(";")[0] for sentence in found] == [
        "demo-worker-1: the kubelet's certificate end on 1970-01-11",
        "demo: certificate authorities end on 1970-06-20",
    ]
    late = certificates.problems(store, 30, now=20 * DAY)
    assert any("demo-master-1: certificates of the control plane end on 1970-02-10" in one for one in late)
    assert certificates.problems(Store(store.folder / "none", "demo"), 30, 0.0) == []


# The API


def pod(node, component, image):
    return SimpleNamespace(
        metadata=SimpleNamespace(labels={"component": component}),
        spec=SimpleNamespace(node_name=node, containers=[SimpleNamespace(image=image)]),
    )


def core(config=f"kind: ClusterConfiguration\nkubernetesVersion: v{NEW}\n") -> Any:
    def read(name, namespace):
        if config is None:
            raise ApiException(status=404)
        return SimpleNamespace(data={"ClusterConfiguration": config})

    return SimpleNamespace(read_namespaced_config_map=read)


def components(node, versions):
    names = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    return [
        pod(node, name, f"registry.k8s.io/{name}:v{version}") for name, version in zip(names, versions, strict=False)
    ]


def test_a_control_plane_is_as_old_as_its_oldest_part(monkeypatch):
    pods = [
        *components("demo-master-1", [NEW, OLD, NEW]), *components("demo-master-2", [NEW, NEW]),
        *components("demo-master-9", [OLD, OLD, OLD]), pod("demo-master-1", "etcd", "registry.k8s.io/etcd:3.7.0-0"),
    ]  # fmt: skip
    monkeypatch.setattr(versions, "CoreV1Api", lambda api: core())
    nodes = {"demo-master-1": {"version": OLD}, "demo-master-2": {"version": OLD}}
    api: Any = None
    assert versions.versions(api, nodes, pods) == Versions(NEW, {"demo-master-1": OLD}, dict.fromkeys(nodes, OLD))
    monkeypatch.setattr(versions, "CoreV1Api", lambda api: core(config=None))
    assert versions.versions(api, nodes, []).config == ""


def node(version=NEW, ready="True", boot="after"):
    return SimpleNamespace(
        status=SimpleNamespace(
            conditions=[SimpleNamespace(type="Ready", status=ready)],
            node_info=SimpleNamespace(kubelet_version=f"v{version}", boot_id=boot),
        )
    )


def test_a_node_is_waited_for_through_an_api_that_restarts(monkeypatch):
    answers = [node(OLD), OSError("refused"), node(NEW, "False"), node(NEW, boot="before"), node()]
    asked = []

    def read(name):
        asked.append(name)
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    api: Any = lambda: None  # noqa: E731
    monkeypatch.setattr(versions, "CoreV1Api", lambda api: SimpleNamespace(read_node=read))
    monkeypatch.setattr(versions, "_INTERVAL", 0)
    versions.await_node(api, "demo-worker-1", {"version": NEW, "not_boot": "before"}, 5)
    assert len(asked) == 5
    answers.append(node(OLD))
    with pytest.raises(versions.NodeError, match=r"demo-worker-1 runs kubelet 1\.36\.3, not 1\.37\.2"):
        versions.await_node(api, "demo-worker-1", {"version": NEW}, 0)
