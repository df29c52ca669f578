import base64
import stat
from typing import Any

import pytest

from managed_k8s.execute import bootstrap, healing, rollout, scaling
from managed_k8s.execute.common import StepError
from managed_k8s.execute.executor import Executor
from managed_k8s.kube import access
from managed_k8s.minions.jobs import JobError, failure
from managed_k8s.model import cluster as model
from managed_k8s.model.cluster import Desired, Facts, Marker, Observed, Snapshot
from managed_k8s.model.steps import ACCESS, INFRASTRUCTURE, INIT, JOIN, KINDS, RESOURCES, SMOKE, Step
from managed_k8s.observe.observer import marker
from managed_k8s.state.store import Store
from tests.support.fakes import Cloud, Jobs, Kube
from tests.support.settings import settings

MEMBERS = {"demo-master-1": Facts("r", model.INITIALISED, True), "demo-master-3": Facts("r", model.JOINED, True)}
LOOK = Snapshot(
    Desired("demo", (), {}, "resources", "smoke"),
    Observed({}, MEMBERS, ready={"demo-master-1": False, "demo-master-3": True}),
)


class Minions(Jobs):
    """Those that note which joins there were when they were asked."""

    def __init__(self, store, answers=()):
        super().__init__([], answers, otherwise=[])
        self.store, self.joins = store, []

    def run(self, minion, function, *args, limit, **kwargs):
        joins = {file.stem: self.store.read(f"joins/{file.name}") for file in (self.store.folder / "joins").glob("*")}
        self.joins.append((function, joins))
        return super().run(minion, function, *args, limit=limit, **kwargs)

    def asked(self):
        return [entry for entry in self.log if entry[0] != "saltutil.is_running"]

    def seen_by(self, function):
        return [joins for name, joins in self.joins if name == f"managed_k8s_kubeadm.{function}"]


class Parts:
    """Cloud, minions and API, and an executor for them."""

    def __init__(self, store, **answers):
        self.jobs, self.kube, self.said = Minions(store, answers), Kube(), []
        self.cloud = Cloud(self.jobs.log)
        parts: list[Any] = [self.cloud, self.jobs, self.kube]
        self.executor = Executor(store, settings(), *parts, say=lambda *words: self.said.append(words))

    def run(self, kind, node=""):
        self.executor.run(Step(f"{kind}:{node}", kind, node, ""), LOOK)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, "demo")
    store.path("x")
    return store


def test_init_is_on_record_before_it_begins(store):
    made = Parts(store, init=JobError("no"))
    with pytest.raises(JobError):
        made.run(INIT, "demo-master-1")
    assert made.jobs.log.count(("begin",)) == 1
    assert marker(store, begun=True) == Marker("demo-master-1", finished=False)
    made.jobs.answers["init"] = {"changed": True}
    made.run(INIT, "demo-master-1")
    assert marker(store, begun=True) == Marker("demo-master-1", finished=True)
    # From here on the settings change no node's version.
    assert store.read("versions.json")["config"] == "1.36.3"
    assert store.read("founding.json")["cni"] == "flannel"


def test_no_init_that_the_cloud_does_not_know_of(store):
    made = Parts(store)
    made.cloud.begin = lambda: (_ for _ in ()).throw(OSError("the cloud is away"))
    with pytest.raises(OSError, match="away"):
        made.run(INIT, "demo-master-1")
    assert ("init", "demo-master-1") not in made.jobs.log


def test_a_record_that_only_the_cloud_kept_names_nobody(store):
    assert marker(store, begun=False) is None
    assert marker(store, begun=True) == Marker(None, finished=False)


def test_waits_for_what_a_killed_reconciler_left_running(store):
    made = Parts(store, **{"saltutil.is_running": [{"fun": "managed_k8s_kubeadm.init"}]})
    with pytest.raises(StepError, match="still running"):
        made.run(INIT, "demo-master-1")
    assert ("begin",) not in made.jobs.log


def test_a_joining_master_and_its_helper_get_secrets_and_lose_them(store):
    store.write_text(access.CA, "the certificate")
    made = Parts(store, join={"changed": True})
    made.run(JOIN, "demo-master-2")
    # The helper is a master that is Ready.
    assert made.jobs.asked() == [("upload_certificates", "demo-master-3"), ("join", "demo-master-2")]
    (joins,) = made.jobs.seen_by("join")
    assert set(joins) == {"demo-master-2", "demo-master-3"}
    assert joins["demo-master-2"] == joins["demo-master-3"]
    assert len(bytes.fromhex(joins["demo-master-2"]["certificate_key"])) == 32
    assert base64.b64decode(joins["demo-master-2"]["ca"]) == b"the certificate"
    assert not list((store.folder / "joins").iterdir())
    assert made.kube.tokens == set()
    assert made.kube.certificates_withdrawn == 1


def test_each_join_has_a_key_of_its_own(store):
    store.write_text(access.CA, "the certificate")
    made = Parts(store)
    for _ in range(2):
        made.run(JOIN, "demo-master-2")
    keys = {joins["demo-master-2"]["certificate_key"] for joins in made.jobs.seen_by("join")}
    assert len(keys) == 2


def test_a_worker_gets_no_certificate_key(store):
    store.write_text(access.CA, "the certificate")
    made = Parts(store)
    made.run(JOIN, "demo-worker-1")
    (joins,) = made.jobs.seen_by("join")
    assert set(joins) == {"demo-worker-1"}
    assert joins["demo-worker-1"]["certificate_key"] is None
    assert made.kube.certificates_withdrawn == 0


@pytest.mark.parametrize("failing", ["join", "upload_certificates"])
def test_a_join_that_fails_leaves_no_secret(store, failing):
    store.write_text(access.CA, "the certificate")
    made = Parts(store, **{failing: JobError("no")})
    with pytest.raises(JobError):
        made.run(JOIN, "demo-master-2")
    assert not list((store.folder / "joins").iterdir())
    assert made.kube.tokens == set()
    assert made.kube.certificates_withdrawn == 1


def test_what_a_killed_reconciler_left_is_removed(store):
    made = Parts(store)
    made.kube.tokens.add("abcdef.0123456789abcdef")
    store.write("joins/demo-master-2.json", {"token": "abcdef.0123456789abcdef"})
    made.executor.clean()
    assert made.kube.tokens == set()
    assert made.kube.certificates_withdrawn == 1
    assert not list((store.folder / "joins").iterdir())


def test_access_is_kept_private_and_ends_an_unfinished_init(store, monkeypatch):
    monkeypatch.setattr(access, "server", lambda candidates: f"https://{candidates[0]}:6443")
    store.write("infra.json", {"public_address": "203.0.113.7"})
    store.write("initialised.json", {"master": "demo-master-1", "finished": False})
    made = Parts(store, ca_certificate="the certificate", sign_client=lambda args: f"signed {args[0]}")
    made.run(ACCESS, "demo-master-1")
    assert store.read_text(access.KUBECONFIG) == "https://203.0.113.7:6443 signed request"
    assert stat.S_IMODE(access.kubeconfig(store).stat().st_mode) == 0o600
    assert store.read("initialised.json") == {"master": "demo-master-1", "finished": True}


def test_smoke_is_passed_only_when_every_check_is(store):
    made = Parts(store)
    made.kube.failed = ["dns: no answer"]
    with pytest.raises(StepError, match="dns"):
        made.run(SMOKE)
    assert store.read("smoke.json") is None
    made.kube.failed = []
    made.run(SMOKE)
    assert store.read("smoke.json") == {"digest": "smoke"}


def test_resources_go_to_the_images_own_user(store):
    written: list[Any] = []
    made = Parts(store, default_home="/home/debian", put=written.append)
    made.run(RESOURCES, "demo-master-1")
    assert written == [("/home/debian/.managed_k8s", {"daemonset.yaml": "kind: DaemonSet"})]
    assert store.read("resources.json") == {"digest": "resources"}


def test_what_is_corrected_in_the_cloud_can_be_followed(store):
    made = Parts(store)
    made.run(INFRASTRUCTURE)
    assert made.said == [("cluster", "allow tcp 22 from 192.0.2.0/24 to demo-gateway")]


def test_says_which_states_failed():
    states = {
        "file_|-a": {"__id__": "Write it", "result": False, "comment": "no space"},
        "file_|-b": {"__id__": "Then this", "result": False, "comment": "One or more requisite failed: Write it"},
        "file_|-c": {"__id__": "Fine", "result": True, "comment": ""},
    }
    assert failure(states) == "Write it: no space"
    assert failure(["Rendering failed"]) == "Rendering failed"
    assert len(failure("x" * 9000)) < 2000


def test_every_kind_of_step_has_one_function_that_runs_it(store, monkeypatch):
    each: list[str] = []
    for part in (bootstrap.Bootstrap, scaling.Turnover, healing.Healing, rollout.Rolling):
        actions = part.actions
        monkeypatch.setattr(part, "actions", lambda self, actions=actions: each.extend(found := actions(self)) or found)
    assert set(Parts(store).executor.actions) == set(KINDS)
    assert sorted(each) == sorted(KINDS), "none has two"
