"""Events, jobs, pillar and runner on a real Salt master with real minions."""

import json
import shutil
import signal

import pytest
import salt.utils.event

from managed_k8s.minions.jobs import JobError, SaltJobs, sync_modules
from managed_k8s.operations import reconcile as reconciling
from managed_k8s.state import queue
from managed_k8s.state.change_requests import Intent
from managed_k8s.state.history import History
from managed_k8s.state.queue import Inbox
from managed_k8s.state.store import Store
from tests.integration.conftest import HANGS, MINIONS, ONE, OTHER, SETTINGS, eventually

pytestmark = pytest.mark.timeout(2 * HANGS)


@pytest.fixture(scope="module")
def jobs(running):
    made = SaltJobs(running.opts)
    eventually(lambda: len(made.accepted("rehearsal")) + len(made.accepted("stranger")) == len(MINIONS))
    eventually(lambda: set(made.ask(MINIONS, "test.ping", limit=5)) == set(MINIONS))
    return made


def test_clusters_do_not_see_each_others_minions(jobs):
    assert jobs.accepted("rehearsal") == ["rehearsal-gateway-1", "rehearsal-master-1"]
    assert jobs.accepted("stranger") == ["stranger-worker-1"]


def test_a_job_answers_and_says_why_it_failed(jobs):
    assert jobs.run("rehearsal-master-1", "test.echo", "hello", limit=30) == "hello"
    with pytest.raises(JobError, match=r"rehearsal-master-1: test.exception: [^$]*it broke"):
        jobs.run("rehearsal-master-1", "test.exception", "it broke", limit=30)
    with pytest.raises(JobError, match="does not know rehearsal-worker-7"):
        jobs.run("rehearsal-worker-7", "test.ping", limit=30)
    with pytest.raises(JobError, match="within 2 seconds"):
        jobs.run("rehearsal-master-1", "test.sleep", 6, limit=2)


def test_a_minion_that_does_not_know_us_yet_learns_the_functions(jobs):
    answers = sync_modules(jobs, ["rehearsal-master-1"], limit=60)
    assert answers["rehearsal-master-1"].ok
    facts = jobs.run("rehearsal-master-1", "managed_k8s_facts.get", limit=30)
    assert facts["kubeadm"] in ("none", "partial", "initialised", "joined")


def test_a_minion_knows_whether_its_extensions_are_those_of_the_salt_master(running, jobs):
    name = "rehearsal-master-1"

    def has():
        return jobs.run(name, "managed_k8s_facts.has_extensions", limit=30)

    def sync():
        sync_modules(jobs, [name], limit=60)
        for kind in ("states", "beacons"):
            jobs.run(name, f"saltutil.sync_{kind}", "base", limit=60)
        jobs.run(name, "saltutil.refresh_pillar", "wait=True", limit=60)

    sync()
    assert has()
    module = running.root / "_modules" / "managed_k8s_images.py"
    module.write_text(module.read_text() + "\n# changed\n")
    jobs.run(name, "saltutil.refresh_pillar", "wait=True", limit=60)
    assert not has()
    sync()
    assert has()


def test_what_modules_import_reaches_a_minion_that_runs(running, jobs):
    name, file = "rehearsal-master-1", running.root / "_utils" / "managed_k8s_common.py"
    sync_modules(jobs, [name], limit=60)
    assert jobs.run(name, "managed_k8s_facts.boot", limit=30)
    kept = file.read_text()
    try:
        file.write_text(f"{kept}\n\ndef read(path: Path) -> str | None:\n    return 'changed'\n")
        sync_modules(jobs, [name], limit=60)
        eventually(lambda: jobs.run(name, "managed_k8s_facts.boot", limit=30) == "changed", 30)
    finally:
        file.write_text(kept)
        sync_modules(jobs, [name], limit=60)


def test_secrets_reach_only_the_minion_they_are_for(running, jobs):
    demo, other = Store(running.state, "rehearsal"), Store(running.state, "stranger")
    demo.write("joins/rehearsal-master-1.json", {"token": "demo token"})
    other.write("joins/stranger-worker-1.json", {"token": "other token"})
    try:
        pillars = {name: jobs.run(name, "pillar.items", limit=30, unmask=True)["managed_k8s"] for name in MINIONS}
    finally:
        demo.remove("joins/rehearsal-master-1.json")
        other.remove("joins/stranger-worker-1.json")
    assert pillars["rehearsal-master-1"]["secrets"]["join"] == {"token": "demo token"}
    assert pillars["rehearsal-master-1"]["secrets"]["encryption"]
    assert pillars["stranger-worker-1"]["secrets"] == {"join": {"token": "other token"}}
    assert pillars["rehearsal-gateway-1"]["secrets"] == {}
    assert "rehearsal" not in json.dumps(pillars["stranger-worker-1"])


def test_validates_from_the_checkout(running):
    done = running.run("salt-run", "managed_k8s.validate", "rehearsal")
    assert done.stdout.strip() == "Settings, cluster.map and profiles are in order: rehearsal."
    assert done.returncode == 0


def test_wrong_input_is_one_message_and_an_exit_code(running):
    settings = running.root / "pillar" / "clusters" / "rehearsal.sls"
    text = settings.read_text()
    try:
        settings.write_text(text.replace("external_network:", "extrnal_network:") + "  kubernetes:\n    cni: calico\n")
        done = running.run("salt-run", "managed_k8s.validate", "rehearsal")
    finally:
        settings.write_text(text)
    assert done.returncode == 1
    assert "did you mean external_network?" in done.stderr
    assert "'calico' is not one of flannel, none" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_wrong_arguments_are_told_too(running):
    done = running.run("salt-run", "managed_k8s.plan", "a", "b", "c")
    assert done.returncode == 1
    assert "too many positional arguments" in done.stderr


def test_programs_get_data(running):
    done = running.run("salt-run", "--out=json", "managed_k8s.validate", "nobody")
    assert done.returncode == 1
    assert "nobody" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_verb_says_so_and_nothing_else(running, held, number):
    process = running.begin("salt-run", "managed_k8s.wait", "rehearsal")
    # It has left its note once it waits.
    eventually(held["rehearsal"].take)
    process.send_signal(number)
    output, errors = process.communicate(timeout=HANGS)
    assert process.returncode == 130
    assert "interrupted; the reconciler goes on without you; come back: salt-run managed_k8s.wait" in errors
    assert "Traceback" not in errors
    assert output == ""


def test_events_end_when_interrupted(running):
    store = Store(running.state, "rehearsal")
    History(store).add("cluster", "begun", "an event of [old]")
    process = running.begin("salt-run", "managed_k8s.history", "rehearsal", "last=1", "follow=True")
    assert "an event of [old]" in process.stdout.readline()
    History(store).add("cluster", "begun", "a new one")
    assert "a new one" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=HANGS)
    assert (process.returncode, output) == (0, "")
    assert "Traceback" not in errors


def test_help_is_of_verbs_alone(running):
    shown = running.run("salt-run", "-d", "managed_k8s").stdout
    listed = {line.strip().removesuffix(":") for line in shown.splitlines() if line.startswith("managed_k8s.")}
    assert {name.removeprefix("managed_k8s.") for name in listed} == {
        "access", "backup", "backup_verify", "backups", "check", "destroy", "diagram", "drain", "enqueue", "history",
        "infra", "kubeconfig", "metrics", "pause", "plan", "reboot", "reconcile", "replace", "restore",
        "resume", "rollback", "smoke", "status", "sweep", "uncordon", "upgrade", "validate",
        "volume_backup", "volume_backups", "volume_restore", "wait",
    }  # fmt: skip
    assert shown.count("CLI Example:") == len(listed)


@pytest.mark.parametrize("verb", ["plan", "smoke", "destroy", "access"])
def test_without_a_cloud_every_verb_says_why_in_a_few_words(running, verb):
    done = running.run("salt-run", "--out=json", f"managed_k8s.{verb}", "rehearsal")
    data = json.loads(done.stdout)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1
    assert "Traceback" not in data["error"]
    assert ("no kubeconfig" if verb in ("smoke", "access") else "no-such-cloud") in data["error"]


def test_without_a_cloud_status_says_why_and_what_else_is_known(running):
    done = running.run("salt-run", "managed_k8s.status", "rehearsal")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the cloud cannot be asked: cloud 'no-such-cloud' is in no clouds.yaml" in done.stdout
    assert "rehearsal is not ready." in done.stdout
    data = json.loads(running.run("salt-run", "--out=json", "managed_k8s.status", "rehearsal").stdout)
    assert data["unknown"].keys() >= {"cloud", "plan"}
    assert data["retcode"] == 0


def test_diagram_and_metrics_are_files_that_everybody_may_read(running, tmp_path):
    for verb, name, begin in (("diagram", "x.svg", "<svg"), ("metrics", "x.prom", "# HELP managed_k8s_ready")):
        done = running.run("salt-run", f"managed_k8s.{verb}", "rehearsal", f"out={tmp_path / name}")
        assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / name))
        assert (tmp_path / name).read_text().startswith(begin)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o644


def test_other_programs_work_from_the_checkout(running):
    listed = running.run("salt-key", "-L")
    assert all(name in listed.stdout for name in MINIONS)
    providers = running.run("salt-cloud", "--list-providers")
    assert "openstack" in providers.stdout
    assert providers.returncode == 0


def test_salt_cloud_refuses_a_wrong_map_in_one_message(running):
    file = running.root / "cluster.map"
    text = file.read_text()
    try:
        file.write_text(text + "nothing: [rehearsal-worker-1]\nx: [web-1]\n")
        done = running.run("salt-cloud", "-y", "-m", "cluster.map")
    finally:
        file.write_text(text)
    assert done.returncode == 1
    assert "rehearsal-worker-1: profile nothing is in no file" in done.stderr
    assert "web-1: profile x is in no file" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("words", [["-y", "-m", "cluster.map"], ["-Q"], ["-y", "-d", "rehearsal-master-1"]])
def test_salt_cloud_says_when_it_cannot_reach_the_cloud(running, words):
    done = running.run("salt-cloud", *words)
    assert done.returncode == 1
    assert "cloud 'no-such-cloud' is in no clouds.yaml" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.fixture
def held(running):
    """What is noted while the reconcilers' locks are held, as they are throughout."""
    found = {name: Inbox(Store(running.state, name)) for name in (ONE, OTHER)}
    for inbox in found.values():
        inbox.take()
    return found


def fire(running, data, tag):
    with salt.utils.event.get_master_event(running.opts, running.opts["sock_dir"], listen=False) as event:
        event.fire_event(data, tag)


def test_a_minion_that_comes_up_makes_its_cluster_looked_at(running, jobs, held):
    jobs.run("rehearsal-master-1", "event.send", "salt/minion/rehearsal-master-1/start", limit=30)
    (note,) = eventually(held["rehearsal"].take)
    assert note == {"id": "rehearsal-master-1", "reason": "minion started"}
    assert held["stranger"].is_empty()


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"id": "x"},
        {"id": "nobody-worker-1"},
        {"id": ["rehearsal-worker-1"]},
        {"id": "rehearsal-worker-1\n- runner.cmd.run: touch"},
        {"id": "../../etc-worker-1"},
        {"id": '{{ salt["cmd.run"]("touch /tmp/forged") }}'},
    ],
)
def test_odd_events_do_nothing(running, held, data):
    fire(running, data, "salt/minion/x/start")
    fire(running, {"id": "rehearsal-worker-1"}, "salt/minion/rehearsal-worker-1/start")
    # Events are handled one after another: whatever the odd one left is there by now.
    assert [note["id"] for note in eventually(held["rehearsal"].take)] == ["rehearsal-worker-1"]
    assert held["stranger"].is_empty()
    assert {folder.name for folder in (running.state / "managed_k8s").iterdir()} == {ONE, OTHER}


@pytest.mark.parametrize(
    "tag",
    [
        "managed_k8s/rehearsal/rehearsal-master-1/silent",
        "managed_k8s/rehearsal/rehearsal-master-1/heard",
        "salt/beacon/rehearsal-master-1/managed_k8s_node/",
        "salt/cloud/rehearsal-master-1/destroyed",
        "salt/minion/rehearsal-master-1/start",
        "managed_k8s/minion/prepared",
    ],
)
def test_a_minion_that_somebody_took_over_makes_clusters_looked_at_and_no_more(running, jobs, held, tag):
    store = Store(running.state, "rehearsal")
    before = {path: path.read_bytes() for path in store.folder.iterdir() if path.suffix in (".json", ".jsonl")}
    told = {"id": "rehearsal-master-1", "ailments": ["etcd", "disk"], "kind": "replace", "step": "reboot:x"}
    jobs.run("stranger-worker-1", "event.send", tag, told, limit=30)
    # By what the Salt master stamped it, where there is such a thing, else by what it claims to be about.
    (note,) = eventually(lambda: [*held["rehearsal"].take(), *held["stranger"].take()])
    assert note["id"] in ("rehearsal-master-1", "stranger-worker-1")
    assert {path: path.read_bytes() for path in before} == before
    assert Intent(store).condemned() == {}
    assert store.read("healing.json") is None


def test_a_server_that_is_gone_makes_its_cluster_looked_at(running, held):
    fire(running, {"name": "stranger-worker-1"}, "salt/cloud/stranger-worker-1/destroyed")
    assert eventually(held["stranger"].take)[0]["id"] == "stranger-worker-1"
    assert held["rehearsal"].is_empty()


def test_a_reconciler_refuses_wrong_input_and_says_so(running):
    """No server in cluster.map is of the other cluster: it says so in the cluster's history, and ends."""
    store = Store(running.state, "third")
    settings = running.root / "pillar" / "clusters" / "third.sls"
    settings.write_text(SETTINGS)
    try:
        reconciling.enqueue(running.opts, "third-worker-1", "a test")
        (entry,) = eventually(lambda: History(store).last(1))
    finally:
        settings.unlink()
    assert entry["what"] == "refused"
    assert "third has no gateway" in entry["reason"]
    eventually(lambda: not queue.is_held(store))
    shutil.rmtree(store.folder)


def test_an_operator_pauses_a_cluster_and_lets_it_go_on(running):
    store = Store(running.state, "rehearsal")
    paused = running.run("salt-run", "managed_k8s.pause", "rehearsal", "reason=network work")
    assert paused.returncode == 0
    assert "network work" in paused.stdout
    assert Intent(store).paused().endswith("network work")
    resumed = running.run("salt-run", "managed_k8s.resume", "rehearsal")
    assert resumed.stdout.strip() == "rehearsal goes on."
    assert Intent(store).paused() == ""
    assert [entry["what"] for entry in History(store).last(2)] == ["paused", "resumed"]


@pytest.mark.parametrize(
    ("node", "words"),
    [("worker-1", "is no node's name"), ("rehearsal-worker-7", "is not in cluster.map"), ("nobody-worker-1", "nobody")],
)
def test_replacing_what_is_no_server_is_refused(running, node, words):
    done = running.run("salt-run", "managed_k8s.replace", node)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
