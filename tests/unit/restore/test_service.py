"""Steps of a restore, in order, once each, and gone on with after any of them failed."""

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from managed_k8s import names
from managed_k8s.kube import access
from managed_k8s.minions.jobs import JobError
from managed_k8s.operations import restore as restoring
from managed_k8s.reconcile.reconciler import Outcome
from managed_k8s.restore import plan as planning
from managed_k8s.restore.plan import Left, Plan, RestoreError, Situation
from managed_k8s.restore.service import Restore
from managed_k8s.state import versions
from managed_k8s.state.change_requests import RESTORE, Intent
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from tests.support import backups
from tests.support.fakes import Cloud, Jobs, Kube

NODES = [node for name in ("demo-gateway-1", "demo-master-1", "demo-master-2") if (node := names.parse(name))]
ENCRYPTION = "resources: [{providers: [{secretbox: {keys: [{name: key1, secret: c2VjcmV0}]}}, {identity: {}}]}]\n"
CONTENT = backups.snapshot(3000)
RECORD = backups.record(1795527000.0, sha256=hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
BACK = Plan("restore-20261124T120000", base="demo-master-1", backup=RECORD.name, reset=("demo-master-2",))


class Repository:
    """Writes what a backup holds."""

    def __init__(self):
        self.content, self.asked = CONTENT, []

    def extract(self, name, target, *paths):
        self.asked += paths
        for file in planning.AUTHORITIES:
            path = target / "kubernetes/pki" / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{file} of the backup")
        (target / "kubernetes/pki/apiserver.key").write_text("of another server")
        encryption = target / "kubernetes/managed-k8s/encryption.yaml"
        encryption.parent.mkdir()
        encryption.write_text(ENCRYPTION)
        if "etcd.db" in paths:
            (target / "etcd.db").write_bytes(self.content)


class Backups:
    """One backup."""

    def __init__(self, folder):
        self.repository, self.folder = Repository(), folder

    def find(self, name):
        return RECORD

    def records(self):
        return [RECORD]

    def scratch(self):
        @contextlib.contextmanager
        def made():
            self.folder.mkdir()
            try:
                yield self.folder
            finally:
                shutil.rmtree(self.folder)

        return made()


class Reconciler:
    """Ends as it is told."""

    def __init__(self, log):
        self.log, self.outcome = log, Outcome([], [])

    def run(self):
        self.log.append(("reconcile",))
        return self.outcome


class Cluster:
    """What looks like a managed_k8s.cluster.Cluster."""

    def __init__(self, folder: Path, log: list[Any]) -> None:
        self.store, self.nodes, self.log = Store(folder, "demo"), NODES, log
        self.cloud, self.kube, self.backups = (
            Cloud(log, [node.id for node in NODES]),
            Kube(),
            Backups(folder / "scratch"),
        )
        self._reconciler = Reconciler(log)
        # The version that its settings had when they were read, as those of a live one are read once.
        self.version = (self.store.read(versions.SEEN) or {}).get("config")

    def anew(self):
        self.version = self.store.read(versions.SEEN)["config"]
        return self

    def executor(self):
        raise NotImplementedError

    def reconciler(self, history=None, is_enough=None):
        return self._reconciler


@pytest.fixture
def log():
    return []


@pytest.fixture
def restore(tmp_path, log, monkeypatch) -> Any:
    from managed_k8s.restore import stale_objects

    cluster: Any = Cluster(tmp_path, log)
    sent: dict[str, dict[str, str]] = {}

    def cleaned(api, servers, base, leaving, members, say):
        log.append(("clean", *sorted(leaving)))
        return []

    def send(server, folder, called):
        log.append(("send", server))
        files = [path for path in folder.rglob("*") if path.is_file()]
        sent[server] = {str(path.relative_to(folder)): path.read_bytes() for path in files}

    monkeypatch.setattr(stale_objects, "clean", cleaned)
    monkeypatch.setattr(access, "is_good", lambda store: True)
    jobs: Any = Jobs(log, otherwise=True)
    made: Any = Restore(cluster, jobs, send, lambda: log.append(("infra",)), History(cluster.store), lambda words: None)
    made.sent = sent
    return made


def test_going_back_is_done_in_order(restore, log):
    assert restore.run(BACK)
    assert log == [
        ("send", "demo-master-1"), ("check", "demo-master-1"), ("runs", "demo-master-1"),
        ("stand_down", "demo-master-2"), ("restore", "demo-master-1"), ("begin",), ("clean", "demo-master-2"),
        ("mark_control_plane", "demo-master-1"), ("reset", "demo-master-2"),
        ("reconcile",), ("finish", "demo-master-1", "demo-master-2"),
    ]  # fmt: skip
    assert restore.store.read(RESTORE) is None
    assert restore.store.read("initialised.json") == {"master": "demo-master-1", "finished": True}


def test_after_an_upgrade_the_base_gets_the_programs_of_the_backup_while_all_runs_on(restore, log):
    restore.jobs.answers["runs"] = False
    assert restore.run(BACK)
    assert log[2:5] == [("runs", "demo-master-1"), ("state.apply", "demo-master-1"), ("stand_down", "demo-master-2")]
    assert restore.store.read("versions.json")["config"] == RECORD.kubernetes
    assert restore.cluster.version == RECORD.kubernetes


def test_a_master_gets_what_it_needs_and_nothing_else(restore):
    restore.run(BACK)
    sent = restore.sent["demo-master-1"]
    assert set(sent) == {"etcd.db", "about.json", "encryption.yaml", *(f"pki/{n}" for n in planning.AUTHORITIES)}
    about = {"size": len(CONTENT), "sha256": RECORD.sha256, "hash": RECORD.hash}
    assert json.loads(sent["about.json"]) == about
    assert not restore.cluster.backups.folder.exists()


def test_the_salt_master_learns_the_authority_and_the_key_of_the_secrets(restore):
    restore.run(BACK)
    assert restore.store.read_text("ca.crt") == "ca.crt of the backup"
    assert restore.store.read("encryption.json") == {"key": "c2VjcmV0"}


def test_a_backup_of_another_cluster_is_refused(restore, log):
    restore.store.write_text("ca.crt", "another")
    with pytest.raises(RestoreError, match="is of another cluster"):
        restore.run(BACK)
    assert log == []
    assert restore.store.read_text("ca.crt") == "another"


@pytest.mark.parametrize("spoil", [lambda c: c[:-1], lambda c: b"x" + c[1:]])
def test_a_database_that_is_not_as_it_was_touches_nobody(restore, log, spoil):
    restore.cluster.backups.repository.content = spoil(CONTENT)
    with pytest.raises(RestoreError, match="when it was made it was"):
        restore.run(BACK)
    assert log == []


@pytest.mark.parametrize("step", ["check", "stand_down", "restore", "reset"])
def test_one_that_failed_is_gone_on_with(restore, log, step):
    restore.jobs.fails = {step}
    with pytest.raises(JobError):
        restore.run(BACK)
    assert "a restore was begun" in Intent(restore.store).paused()
    before = [entry[0] for entry in log]
    restore.jobs.fails = set()
    log.clear()
    plan, only_joining = restore.begun()
    assert (plan, only_joining) == (BACK, False)
    assert restore.run(plan)
    after = [entry[0] for entry in log]
    done = before[: before.index(step)]
    assert not {"send", "stand_down", "restore"} & set(done) & set(after) - {"send" if step == "check" else ""}
    assert after[-1] == "finish"
    assert Intent(restore.store).paused() == ""


def test_what_the_reconciler_could_not_end_stays_begun_and_set_aside(restore, log):
    restore.cluster.reconciler().outcome = Outcome([], ["demo-master-2: has no server yet"])
    assert not restore.run(BACK)
    assert ("finish", "demo-master-1", "demo-master-2") not in log
    assert restore.begun() == (BACK, True)
    assert Intent(restore.store).paused() == ""


def test_silent_masters_are_off_and_condemned_before_the_database_starts(restore, log):
    plan = Plan("restore-1", base="demo-master-1", own=True, fence={"demo-master-2": "id-demo-master-2"})
    assert restore.run(plan)
    names = [entry[0] for entry in log]
    assert names.index("power off") < names.index("restore")
    assert Intent(restore.store).condemned()["demo-master-2"]["id"] == "id-demo-master-2"
    assert restore.cluster.backups.repository.asked == []


def test_servers_are_made_only_once_nobody_can_take_one_for_a_first_master(restore, log):
    restore.jobs.told = {"demo-master-1": left(), "demo-gateway-1": left()}
    plan = Plan(
        "restore-1", base="demo-master-1", fresh=True, backup=RECORD.name, make=("demo-master-1", "demo-master-2")
    )
    assert restore.run(plan)
    names = [entry[0] for entry in log]
    assert names[:3] == ["infra", "begin", "reconcile"]
    assert names.index("initialise") < names.index("clean") < names.index("mark_control_plane")
    assert set(Intent(restore.store).servers()) == {"demo-master-1", "demo-master-2"}


def test_a_base_that_was_not_made_ends_it(restore, log):
    plan = Plan("restore-1", base="demo-master-1", fresh=True, backup=RECORD.name, make=("demo-master-1",))
    with pytest.raises(RestoreError, match="demo-master-1 is not there yet"):
        restore.run(plan)
    # The reconciler goes on making it.
    assert Intent(restore.store).paused() == ""


def test_certificates_alone_need_no_database(restore, log):
    plan = Plan("restore-1", backup=RECORD.name, certificates=("demo-master-2",))
    assert restore.run(plan)
    assert "etcd.db" not in restore.cluster.backups.repository.asked
    assert "etcd.db" not in restore.sent["demo-master-2"]
    assert [entry[0] for entry in log][:4] == ["send", "check", "certificates", "await_api"]


def left(**more):
    facts = {"kubeadm": "none", "database": False, "quorum": False, "revision": None, "index": 0, "certificates": []}
    return facts | more


WELL = {"kubeadm": "joined", "database": True, "quorum": True, "revision": 9, "index": 5}


def test_a_begun_one_is_proposed_again_and_another_wish_replaces_it(restore):
    restore.jobs.told = {name: left(**WELL) for name in ("demo-master-1", "demo-master-2")}
    restore.jobs.fails = {"restore"}
    with pytest.raises(JobError):
        restore.run(BACK)
    again = restoring.propose(restore, None, None)
    assert (again.plan, again.resumed) == (BACK, True)
    other = restoring.propose(restore, RECORD.name, None)
    assert not other.resumed
    assert other.plan.id != BACK.id


def test_a_restore_that_only_waits_for_joins_does_not_hide_a_new_loss(restore):
    restore.cluster.reconciler().outcome = Outcome([], ["waiting"])
    restore.run(BACK)
    restore.jobs.told = {"demo-master-2": left(**WELL | {"quorum": False})}
    found = restoring.propose(restore, None, None)
    assert not found.resumed
    assert (found.plan.base, found.plan.own) == ("demo-master-2", True)


def test_servers_that_cannot_say_what_they_are_are_named(restore):
    restore.jobs.told = {"demo-master-1": "Traceback: oh"}
    with pytest.raises(RestoreError, match="demo-master-1: Traceback: oh"):
        restore.look()


def test_looks_at_servers_as_they_are(restore):
    restore.jobs.told = {"demo-master-1": left(**WELL)}
    found = restore.look()
    assert isinstance(found, Situation)
    assert found.left == {"demo-master-1": Left("joined", True, True, 9, 5)}
    assert found.servers["demo-master-2"] == "id-demo-master-2"


def test_what_was_restored_is_smoke_tested_again(restore):
    restore.store.write("smoke.json", {"digest": "d"})
    restore.run(Plan("restore-1", backup=RECORD.name, certificates=("demo-master-2",)))
    assert restore.store.read("smoke.json") == {"digest": "d"}
    restore.run(BACK)
    assert restore.store.read("smoke.json") is None
