"""A cluster is made while events are lost or come twice, reconcilers are killed, and the Salt master is restarted.

It becomes the same cluster as any other, and `kubeadm init` happens once.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import random
import time
from pathlib import Path

import psutil
import pytest
import salt.utils.event
from kubernetes.client import CoreV1Api

from managed_k8s.salt_master import cli
from managed_k8s.state import history, queue
from tests.e2e import second
from tests.support.checkout import ETCDCTL
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(3600)

LIMIT = 2400
# It is their joins that must not be interrupted for ever.
MASTERS = 3
# With this, whatever the Salt master hears is lost; the sweep alone makes things go on.
DEAF = "master.d/without-reactors.conf"
KILL, CRASH = "the reconciler is killed", "the Salt master is killed, and started with its reactors"
# What happens in the middle of which step, once each.
INSULTS = {
    "converge:small-master-1": KILL,
    "init:small-master-1": KILL,
    "join:small-master-2": CRASH,
    "join:small-master-3": KILL,
    "addons": KILL,
    "join:small-worker-1": KILL,
    "smoke": KILL,
}


@dataclasses.dataclass
class Scenario:
    """What was done to the cluster while it was made.

    hit: steps in whose middle something happened. began: when, as the ids of Salt's jobs begin.
    authority: the cluster's CA when there was one first. killed: when a reconciler was killed last.
    """

    cluster: object
    began: str
    hit: list[str] = dataclasses.field(default_factory=list)
    authority: str = ""
    killed: float = 0

    def running(self):
        """Return the steps that began and did not end, as the history says; those of killed reconcilers never do."""
        steps = {}
        with contextlib.suppress(FileNotFoundError):
            for line in (self.cluster.store.folder / history.FILE).read_text().splitlines():
                entry = json.loads(line)
                if "step" in entry and entry["time"] > self.killed:
                    steps[entry["step"]] = entry["what"] == "begun"
        return {step for step, runs in steps.items() if runs}

    def reconcilers(self):
        return queue.reconcilers(str(self.cluster.checkout.root / "master"), self.cluster.name)

    def kill(self):
        """Kill whatever reconciles, as the kernel does when memory is short."""
        for process in self.reconcilers():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        eventually(lambda: self.reconcilers() == [], 10)
        self.killed = time.time()

    def announce_twice(self):
        """Let every minion's start be heard twice, all at once and in any order."""
        opts = self.cluster.checkout.opts
        names = second.server_names(MASTERS) * 2
        random.shuffle(names)
        with salt.utils.event.get_master_event(opts, opts["sock_dir"], listen=False) as bus:
            for name in names:
                bus.fire_event({"id": name}, f"salt/minion/{name}/start")

    def note_authority(self):
        file = Path(self.cluster.store.folder / "ca.crt")
        if not self.authority and file.exists():
            self.authority = file.read_text()


def deafen(checkout):
    """Start the Salt master without its reactors."""
    (checkout.root / DEAF).write_text("reactor: []\n")
    checkout.stop_master()
    checkout.start_master()


def crash_and_start(checkout):
    """Kill the Salt master, not the reconcilers that it started, and start it with its reactors."""
    (checkout.root / DEAF).unlink(missing_ok=True)
    process = cli.running(cli.state_folder())
    others = {process.pid for process in queue.reconcilers(str(checkout.root / "master"))}
    family = [one for one in (process, *process.children(recursive=True)) if one.pid not in others]
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(family, timeout=10)
    checkout.start_master()


@pytest.fixture(scope="module")
def scenario(beside):
    """The second cluster, made against all odds."""
    checkout, cluster = beside.checkout, beside
    assert cluster.servers == {}, "the second cluster is there already"
    second.have(checkout.root, MASTERS)
    made = Scenario(cluster, time.strftime("%Y%m%d%H%M%S"))
    deafen(checkout)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        creation = pool.submit(checkout.run, "salt-cloud", "-y", "-m", "cluster.map", timeout=LIMIT)
        end = time.monotonic() + LIMIT
        while set(made.hit) < set(INSULTS) and time.monotonic() < end:
            made.note_authority()
            for step in sorted(made.running() & set(INSULTS) - set(made.hit)):
                # Somewhere in its middle.
                time.sleep(random.uniform(0.2, 1.5))
                if step not in made.running():
                    continue
                print(f"{time.strftime('%H:%M:%S')} {INSULTS[step]} during {step}")
                made.hit.append(step)
                if INSULTS[step] == CRASH:
                    crash_and_start(checkout)
                else:
                    made.kill()
                made.announce_twice()
            if (cluster.store.read("state.json") or {}).get("ready"):
                break
            time.sleep(0.2)
        creation.result()
    checkout.run("salt-run", "managed_k8s.wait", cluster.name, "timeout=1200", timeout=1500)
    yield made
    checkout.run("salt-run", "managed_k8s.destroy", cluster.name, "yes=True", timeout=900)
    second.have(checkout.root, second.SERVERS["master"])


def test_something_happened_in_the_middle_of_every_step(scenario):
    # The others may be too short to be hit each time; these are what must not go wrong.
    assert {"init:small-master-1", "join:small-master-2", "join:small-master-3"} <= set(scenario.hit)
    assert len(scenario.hit) >= len(INSULTS) - 2, scenario.hit


def test_it_becomes_as_it_should_be(scenario):
    found = scenario.cluster.verb("status")
    assert found["ready"], found
    assert found["failed"] == {}
    assert {node["kubernetes"] for node in found["nodes"]} == {"Ready", "-"}
    assert scenario.cluster.verb("smoke")["ok"]


def answers_to_init(checkout, since):
    """Return what the Salt master has on record of `kubeadm init` on the second cluster's masters."""

    def ask(*words):
        return json.loads(checkout.run("salt-run", "--out=json", *words).stdout)

    jobs = [jid for jid in ask("jobs.list_jobs", "search_function=managed_k8s_kubeadm.init") if jid >= since]
    answers = [ask("jobs.lookup_jid", jid) for jid in jobs]
    return [answer for each in answers for name, answer in each.items() if name.startswith("small-")]


def test_kubeadm_init_happened_once(scenario):
    found = answers_to_init(scenario.cluster.checkout, scenario.began)
    assert [answer for answer in found if answer == {"changed": True}] == [{"changed": True}], found
    assert len([entry for entry in scenario.cluster.history() if entry["what"] == "initialised"]) <= 1


def test_there_is_one_etcd_and_one_authority(scenario):
    cluster = scenario.cluster
    masters = cluster.names("master")
    status = [json.loads(cluster.ssh(name, f"{ETCDCTL} endpoint status --write-out=json"))[0] for name in masters]
    assert len({entry["Status"]["header"]["cluster_id"] for entry in status}) == 1
    members = json.loads(cluster.ssh(masters[0], f"{ETCDCTL} member list --write-out=json"))["members"]
    assert sorted(member["name"] for member in members) == masters
    assert not any(member.get("isLearner") for member in members)
    authorities = {cluster.ssh(name, "sudo cat /etc/kubernetes/pki/ca.crt").strip() for name in masters}
    assert authorities == {scenario.authority.strip()}


def test_what_killed_reconcilers_left_is_gone(scenario):
    cluster = scenario.cluster
    assert list((cluster.store.folder / "joins").glob("*.json")) == []
    core = CoreV1Api(cluster.api)
    secrets = core.list_namespaced_secret("kube-system").items
    assert [secret.metadata.name for secret in secrets if secret.type == "bootstrap.kubernetes.io/token"] == []
    spaces = [space.metadata.name for space in core.list_namespace().items]
    assert [name for name in spaces if name.startswith("managed-k8s-smoke")] == []


def test_states_applied_again_change_nothing(scenario):
    answers = scenario.cluster.checkout.salt("small-*", "state.apply")
    assert set(answers) == set(second.server_names(MASTERS))
    assert [
        s["__id__"] for answer in answers.values() for s in answer.values() if s["changes"] or not s["result"]
    ] == []
