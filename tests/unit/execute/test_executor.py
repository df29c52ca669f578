import base64
import stat
from typing import Any

import pytest

from managed_k8s.execute import executor as executing
from managed_k8s.execute.executor import Executor, StepError
from managed_k8s.kube import access
from managed_k8s.minions.jobs import JobError, failure
from managed_k8s.model import cluster as model
from managed_k8s.model.cluster import Desired, Facts, Marker, Observed, Step
from managed_k8s.observe.observer import Look, marker
from managed_k8s.state.store import Store

MEMBERS = {"demo-master-1": Facts("r", model.INITIALISED, True), "demo-master-3": Facts("r", model.JOINED, True)}
LOOK = Look(
    Desired("demo", (), {}, "resources", "smoke"),
    Observed({}, MEMBERS, ready={"demo-master-1": False, "demo-master-3": True}),
)
SETTINGS = {
    "openstack": {"virtual_ip": "10.30.0.5"},
    "kubernetes": {
        "version": "1.36.3", "cni": "flannel", "pod_cidr": "10.244.0.0/16", "service_cidr": "10.96.0.0/16",
    },
}  # fmt: skip


class Jobs:
    """Minions that answer from a dictionary and note what they were asked, with the joins there were."""

    def __init__(self, store, answers=()):
        self.store, self.answers, self.asked = store, dict(answers), []

    def run(self, minion, function, *args, limit, **kwargs):
        joins = {file.stem: self.store.read(f"joins/{file.name}") for file in (self.store.folder / "joins").glob("*")}
        self.asked.append((minion, function.removeprefix("managed_k8s_node."), joins))
        answer = self.answers.get(function.removeprefix("managed_k8s_node."), [])
        if isinstance(answer, Exception):
            raise answer
        return answer(args) if callable(answer) else answer

    def functions(self):
        return [(minion, function) for minion, function, _ in self.asked if function != "saltutil.is_running"]


class Kube:
    def __init__(self):
        self.tokens, self.failed = set(), []
        self.certificates_withdrawn = 0

    def create_token(self, seconds):
        self.tokens.add("abcdef.0123456789abcdef")
        return "abcdef.0123456789abcdef"

    def delete_token(self, token):
        self.tokens.discard(token)

    def withdraw_certificates(self):
        self.certificates_withdrawn += 1

    def mint(self, sign, server, ca):
        return f"{server} {sign('request')}"

    def resources(self):
        return {"daemonset.yaml": "kind: DaemonSet"}

    def smoke(self, say):
        return self.failed


class Cloud:
    def __init__(self):
        self.begun = 0

    def begin(self):
        self.begun += 1

    def correct(self, say):
        say("allow tcp 22 from 192.0.2.0/24 to demo-gateway")


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path, "demo")
    store.path("x")
    return store


def executor(store, **answers) -> Any:
    parts: list[Any] = [Cloud(), Jobs(store, answers), Kube()]
    return Executor(store, SETTINGS, *parts)


def run(made, kind, node=""):
    made.run(Step(f"{kind}:{node}", kind, node, ""), LOOK)


def test_init_is_on_record_before_it_begins(store):
    made = executor(store, init=JobError("no"))
    with pytest.raises(JobError):
        run(made, model.INIT, "demo-master-1")
    assert made.cloud.begun == 1
    assert marker(store, begun=True) == Marker("demo-master-1", finished=False)
    made.jobs.answers["init"] = {"changed": True}
    run(made, model.INIT, "demo-master-1")
    assert marker(store, begun=True) == Marker("demo-master-1", finished=True)
    # From here on the settings change no node's version.
    assert store.read("versions.json")["config"] == "1.36.3"
    assert store.read("founding.json")["cni"] == "flannel"


def test_no_init_that_the_cloud_does_not_know_of(store):
    made = executor(store)
    made.cloud.begin = lambda: (_ for _ in ()).throw(OSError("the cloud is away"))
    with pytest.raises(OSError, match="away"):
        run(made, model.INIT, "demo-master-1")
    assert ("demo-master-1", "init") not in made.jobs.functions()


def test_a_record_that_only_the_cloud_kept_names_nobody(store):
    assert marker(store, begun=False) is None
    assert marker(store, begun=True) == Marker(None, finished=False)


def test_waits_for_what_a_killed_reconciler_left_running(store):
    made = executor(store, **{"saltutil.is_running": [{"fun": "managed_k8s_node.init"}]})
    with pytest.raises(StepError, match="still running"):
        run(made, model.INIT, "demo-master-1")
    assert made.cloud.begun == 0


def test_a_joining_master_and_its_helper_get_secrets_and_lose_them(store):
    store.write_text(access.CA, "the certificate")
    made = executor(store, join={"changed": True})
    run(made, model.JOIN, "demo-master-2")
    # The helper is a master that is Ready.
    assert made.jobs.functions() == [("demo-master-3", "upload_certificates"), ("demo-master-2", "join")]
    joins = made.jobs.asked[-1][2]
    assert set(joins) == {"demo-master-2", "demo-master-3"}
    assert joins["demo-master-2"] == joins["demo-master-3"]
    assert len(bytes.fromhex(joins["demo-master-2"]["certificate_key"])) == 32
    assert base64.b64decode(joins["demo-master-2"]["ca"]) == b"the certificate"
    assert not list((store.folder / "joins").iterdir())
    assert made.kube.tokens == set()
    assert made.kube.certificates_withdrawn == 1


def test_each_join_has_a_key_of_its_own(store):
    store.write_text(access.CA, "the certificate")
    made = executor(store)
    for _ in range(2):
        run(made, model.JOIN, "demo-master-2")
    keys = {joins["demo-master-2"]["certificate_key"] for _, name, joins in made.jobs.asked if name == "join"}
    assert len(keys) == 2


def test_a_worker_gets_no_certificate_key(store):
    store.write_text(access.CA, "the certificate")
    made = executor(store)
    run(made, model.JOIN, "demo-worker-1")
    ((_, _, joins),) = [asked for asked in made.jobs.asked if asked[1] == "join"]
    assert set(joins) == {"demo-worker-1"}
    assert joins["demo-worker-1"]["certificate_key"] is None
    assert made.kube.certificates_withdrawn == 0


@pytest.mark.parametrize("failing", ["join", "upload_certificates"])
def test_a_join_that_fails_leaves_no_secret(store, failing):
    store.write_text(access.CA, "the certificate")
    made = executor(store, **{failing: JobError("no")})
    with pytest.raises(JobError):
        run(made, model.JOIN, "demo-master-2")
    assert not list((store.folder / "joins").iterdir())
    assert made.kube.tokens == set()
    assert made.kube.certificates_withdrawn == 1


def test_what_a_killed_reconciler_left_is_removed(store):
    made = executor(store)
    made.kube.tokens.add("abcdef.0123456789abcdef")
    store.write("joins/demo-master-2.json", {"token": "abcdef.0123456789abcdef"})
    made.clean()
    assert made.kube.tokens == set()
    assert made.kube.certificates_withdrawn == 1
    assert not list((store.folder / "joins").iterdir())


def test_access_is_kept_private_and_ends_an_unfinished_init(store, monkeypatch):
    monkeypatch.setattr(access, "server", lambda candidates: f"https://{candidates[0]}:6443")
    store.write("infra.json", {"public_address": "203.0.113.7"})
    store.write("initialised.json", {"master": "demo-master-1", "finished": False})
    made = executor(store, ca_certificate="the certificate", sign_client=lambda args: f"signed {args[0]}")
    run(made, model.ACCESS, "demo-master-1")
    assert store.read_text(access.KUBECONFIG) == "https://203.0.113.7:6443 signed request"
    assert stat.S_IMODE(access.kubeconfig(store).stat().st_mode) == 0o600
    assert store.read("initialised.json") == {"master": "demo-master-1", "finished": True}


def test_smoke_is_passed_only_when_every_check_is(store):
    made = executor(store)
    made.kube.failed = ["dns: no answer"]
    with pytest.raises(StepError, match="dns"):
        run(made, model.SMOKE)
    assert store.read("smoke.json") is None
    made.kube.failed = []
    run(made, model.SMOKE)
    assert store.read("smoke.json") == {"digest": "smoke"}


def test_resources_go_to_the_images_own_user(store):
    written: list[Any] = []
    made = executor(store, default_user="/home/debian", put_files=written.append)
    run(made, model.RESOURCES, "demo-master-1")
    assert written == [("/home/debian/.managed_k8s", {"daemonset.yaml": "kind: DaemonSet"})]
    assert store.read("resources.json") == {"digest": "resources"}


def test_what_is_corrected_in_the_cloud_can_be_followed(store):
    said = []
    made = executor(store)
    made.say = lambda subject, words: said.append((subject, words))
    run(made, model.INFRASTRUCTURE)
    assert said == [("cluster", "allow tcp 22 from 192.0.2.0/24 to demo-gateway")]


def test_says_which_states_failed():
    states = {
        "file_|-a": {"__id__": "Write it", "result": False, "comment": "no space"},
        "file_|-b": {"__id__": "Then this", "result": False, "comment": "One or more requisite failed: Write it"},
        "file_|-c": {"__id__": "Fine", "result": True, "comment": ""},
    }
    assert failure(states) == "Write it: no space"
    assert failure(["Rendering failed"]) == "Rendering failed"
    assert len(failure("x" * 9000)) < 2000


def test_advice_names_the_server():
    step = Step("join:demo-worker-1", model.JOIN, "demo-worker-1", "")
    assert "demo-worker-1" in executing.advice(step)
