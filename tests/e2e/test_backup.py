"""Backups of the cluster of cluster.map: made, moved, proven, kept by the policy, whatever goes wrong on the way."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import time

import pytest
from kubernetes.client import CoreV1Api, V1ConfigMap, V1ObjectMeta, V1Secret

from bench import big_etcd
from bench.setting import Setting
from managed_k8s.backup import retention, schedule, service
from managed_k8s.backup.record import Record
from managed_k8s.config import cron
from managed_k8s.salt_master import cli
from managed_k8s.state import attempts, queue
from managed_k8s.state.store import Store
from tests.e2e import secrecy
from tests.support.checkout import BIN
from tests.support.command_line import lab
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(1800)
NAME = "managed-k8s-backup-test"
# MB; then a snapshot and its way to the Salt master take seconds, in which something can go wrong.
LARGE = 300


@pytest.fixture(scope="module")
def folders(demo):
    """The cluster's store, and what keeps its backups."""
    root = cli.state_folder()
    return Store(root, "demo").folder, Store(root, "demo", "managed_k8s_backups").folder


@pytest.fixture(scope="module")
def object_in_etcd(demo):
    api = CoreV1Api(demo.api)
    made = V1ConfigMap(metadata=V1ObjectMeta(name=NAME), data={"number": "1"})
    api.create_namespaced_config_map("default", made)
    yield made
    api.delete_namespaced_config_map(NAME, "default")


def leader(demo):
    answers = demo.checkout.salt("demo-master-*", "managed_k8s_backup.member")
    return next(name for name, told in answers.items() if told["leader"])


def backup(demo):
    """Take one, and expect it to be good."""
    made = demo.verb("backup")
    assert made["retcode"] == 0, made
    return made


def names(demo):
    return [one["name"] for one in demo.verb("backups")["backups"]]


def cache():
    return cli.state_folder() / "var" / "cache" / "salt" / "master" / "minions"


def test_a_backup_is_made_from_a_follower_and_restored_in_a_drill(demo, object_in_etcd):
    made = backup(demo)
    assert made["member"] in demo.names("master")
    assert made["member"] != leader(demo)
    tried = demo.verb("backup_verify", f"backup={made['name']}")
    assert (tried["retcode"], tried["name"], tried["proven"]) == (0, made["name"], True)
    assert made["name"] in names(demo)


def test_nothing_of_it_stays_on_the_masters_or_where_it_arrived(demo):
    quiet(demo)
    left = demo.checkout.salt("demo-master-*", "file.directory_exists", "/var/lib/managed-k8s/backup")
    assert set(left.values()) == {False}
    assert not [path for path in cache().glob("demo-*/files/**/*") if path.is_file()]


def test_the_schedule_makes_them_and_check_says_that_all_is_well(demo, folders):
    store, _ = folders
    kept = json.loads((store / "backup.json").read_text())
    assert kept["failures"] == 0
    found = demo.verb("check")
    assert (found["retcode"], found["problems"]) == (0, [])


# Secrets


def test_no_secret_is_in_the_open_while_a_backup_is_made_and_proven(demo):
    with secrecy.Watch(demo, secrecy.secrets(demo)) as watch:
        backup(demo)
        assert demo.verb("backup_verify")["retcode"] == 0
    assert watch.found == []
    assert (watch.rounds > 5, watch.events > 5) == (True, True)


def test_who_watches_for_secrets_sees_them(demo, tmp_path):
    """Something that is no secret is put wherever one must not be."""
    word = f"e2e-planted-{secrets.token_hex(8)}"
    with secrecy.Watch(demo, [word.encode()]) as watch:
        subprocess.run(["sh", "-c", "sleep 3; true", word], check=True)
        (tmp_path / "planted").write_text(word)
        demo.ssh("demo-master-1", f"sh -c 'sleep 3; true' {word}")
        demo.ssh("demo-master-2", "cat > /var/tmp/e2e-planted", stdin=word)
        demo.ssh("demo-master-3", "logger", stdin=word)
    demo.ssh("demo-master-2", "rm /var/tmp/e2e-planted")
    found = "\n".join(watch.found)
    assert "cmdline of process" in found
    assert str(tmp_path / "planted") in found
    assert "demo-master-1: a command line or environment" in found
    assert "demo-master-2: /var/tmp/e2e-planted" in found
    assert "demo-master-3: the journal" in found


def test_a_secret_in_etcd_is_encrypted_in_the_backup_too(demo, folders, tmp_path):
    api = CoreV1Api(demo.api)
    api.create_namespaced_secret(
        "default", V1Secret(metadata=V1ObjectMeta(name=NAME), string_data={"word": "opensesame"})
    )
    try:
        made = backup(demo)
    finally:
        api.delete_namespaced_secret(NAME, "default")
    _, vault = folders
    demo.checkout.run(*by_hand(vault, tmp_path), "borg", "extract", f"{vault / 'repository'}::{made['name']}")
    content = (tmp_path / "etcd.db").read_bytes()
    assert NAME.encode() in content
    assert b"opensesame" not in content


def by_hand(vault, folder):
    """Return what runs borg in a folder, as docs/backups.md says."""
    return ("env", "-C", folder, f"BORG_PASSCOMMAND=cat {vault / 'passphrase'}", f"BORG_BASE_DIR={folder}")


# Retention


@pytest.mark.timeout(3600)
def test_of_many_backups_those_of_the_policy_stay(demo):
    """Sixty, one after the other; what the schedule makes meanwhile counts too."""

    def records(found):
        return {one["name"]: Record(**{key: one[key] for key in Record.__dataclass_fields__}) for one in found}

    every = records(demo.verb("backups")["backups"])
    made = [backup(demo) for _ in range(60)]
    left = records(demo.verb("backups")["backups"])
    every |= records(made) | left
    policy = demo.settings.backup.retention.model_dump()
    assert set(left) == set(retention.keep(list(every.values()), policy))
    assert len(left) < len(every) - 30


# Faults


@pytest.fixture(scope="module")
def large(demo):
    """An etcd that a backup has something to do with."""
    with big_etcd.filled(Setting("demo"), big_etcd.RANDOM, LARGE):
        yield


@pytest.fixture
def no_faults_left(demo):
    yield
    lab("fault", "clear")
    demo.checkout.run("salt-run", "managed_k8s.wait", "demo", "timeout=900", timeout=1000)


@pytest.fixture
def nobody_heals(demo):
    """A master that lost its power or has no room is well again within two minutes otherwise."""
    demo.checkout.run("salt-run", "managed_k8s.pause", "demo", "reason=a test")
    yield
    demo.checkout.run("salt-run", "managed_k8s.resume", "demo")


def quiet(demo):
    """Return when no backup is made, and the schedule makes none for three minutes."""
    schedule_ = demo.settings.backup.schedule

    def is_quiet():
        now = time.time()
        kept = attempts.Attempts.of(demo.store.read(service.BACKUPS))
        return (
            not queue.is_held(demo.store, service.LOCK)
            and not schedule.is_due(schedule_, kept, now)
            and cron.following(schedule_, now) - now > 180
        )

    eventually(is_quiet, 600, 1)


def begin(demo):
    """Start a backup; return its process, and once a master was chosen, where its snapshot arrives."""
    process = subprocess.Popen(
        [BIN / "salt-run", "--out=json", "managed_k8s.backup", "demo"],
        cwd=demo.checkout.root, env=demo.checkout.environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    found = eventually(lambda: list(cache().glob("demo-master-*/files/managed-k8s-backup/ticket-*/etcd.db")), 120, 0.02)
    return process, found[0]


def arrived(arriving):
    """Return how many pieces of a snapshot arrived; those that were archived are gone again."""
    return max((int(piece.name) + 1 for piece in arriving.glob("*")), default=0)


def is_no_backup(demo, process, before):
    """Expect that a backup failed, that it is said, and that none is listed which was not before."""
    said = json.loads(process.communicate(timeout=400)[0])
    assert said["retcode"] == 1, said
    assert names(demo) == before
    problems = demo.verb("check")["problems"]
    assert any("the last backup failed" in problem for problem in problems), problems
    return said["error"]


@pytest.mark.usefixtures("large", "no_faults_left", "nobody_heals")
@pytest.mark.parametrize("pieces", [0, 3], ids=["snapshot", "transfer"])
def test_a_master_that_dies_makes_no_backup_and_the_next_one_comes_from_another(demo, pieces):
    backup(demo)
    quiet(demo)
    before = names(demo)
    process, arriving = begin(demo)
    # With nothing there yet, the snapshot is being taken.
    eventually(lambda: arrived(arriving) >= pieces, 120, 0.02)
    victim = arriving.parents[3].name
    lab("fault", "power-loss", victim)
    print("pieces that arrived when its power was off:", arrived(arriving) if arriving.exists() else "all of them")
    assert victim in is_no_backup(demo, process, before)
    made = backup(demo)
    assert made["member"] != victim
    assert demo.verb("backup_verify", f"backup={made['name']}")["retcode"] == 0


def test_a_salt_master_that_restarts_in_the_middle_makes_no_half_backup(demo, large):
    backup(demo)
    quiet(demo)
    before = names(demo)
    process, arriving = begin(demo)
    eventually(lambda: arrived(arriving) >= 3, 120, 0.02)
    demo.checkout.stop_master()
    demo.checkout.start_master()
    process.communicate(timeout=900)
    eventually(lambda: all(one is True for one in pinged(demo).values()), 180, 2)
    made = set(names(demo)) - set(before)
    assert len(made) == (0 if process.returncode else 1)
    for name in made:
        assert demo.verb("backup_verify", f"backup={name}")["retcode"] == 0
    backup(demo)


def pinged(demo):
    return demo.checkout.salt("demo-master-*", "test.ping", check=False)


SPOIL = {
    "flipped": 'printf xxxxxxxx | dd of="$file" bs=1 seek=$(($(stat -c %s "$file") / 2)) conv=notrunc status=none',
    "truncated": 'truncate --size=-1000000 "$file"',
}
# In the place of etcdctl. Under its own name a snapshot is read while it is written.
SPOILING = """#!/bin/bash
case "$*" in *"snapshot save"*) ;; *) exec /usr/local/bin/etcdctl.e2e "$@";; esac
file="${{@: -1}}.e2e"
/usr/local/bin/etcdctl.e2e "${{@:1:$#-1}}" "$file" || exit
{spoil}
mv "$file" "${{@: -1}}"
"""


@contextlib.contextmanager
def damaged_snapshots(demo, spoil):
    """Have every master's snapshots damaged on its disk, before anybody looked at them."""
    script = SPOILING.format(spoil=SPOIL[spoil])
    replace = "{ [ -e etcdctl.e2e ] || mv etcdctl etcdctl.e2e; } && cat > etcdctl && chmod 755 etcdctl"
    put_back = "[ ! -e etcdctl.e2e ] || mv etcdctl.e2e etcdctl"
    try:
        for name in demo.names("master"):
            demo.ssh(name, f"sudo sh -c 'cd /usr/local/bin && {replace}'", stdin=script)
        yield
    finally:
        for name in demo.names("master"):
            demo.ssh(name, f"sudo sh -c 'cd /usr/local/bin && {put_back}'")


@pytest.mark.parametrize("spoil", SPOIL)
def test_a_damaged_snapshot_is_no_backup_and_is_said(demo, large, spoil):
    backup(demo)
    quiet(demo)
    before = names(demo)
    with damaged_snapshots(demo, spoil):
        process, _ = begin(demo)
        print(is_no_backup(demo, process, before))
    made = backup(demo)
    assert names(demo)[0] == made["name"]


def test_a_locked_repository_is_said_and_the_next_backup_is_made(demo, folders, tmp_path):
    backup(demo)
    quiet(demo)
    _, vault = folders
    before, repository = names(demo), vault / "repository"
    words = (*by_hand(vault, tmp_path), "borg", "with-lock", repository, "sleep", "600")
    holder = subprocess.Popen([*map(str, words)], start_new_session=True)
    try:
        eventually((repository / "lock.exclusive").exists, 30)
        refused = demo.verb("backup")
    finally:
        os.killpg(holder.pid, signal.SIGTERM)
        holder.wait()
    assert refused["retcode"] == 1
    assert "borg break-lock" in refused["error"]
    assert "the last backup failed" in " ".join(demo.verb("check")["problems"])
    assert names(demo) == before
    backup(demo)


@pytest.mark.usefixtures("no_faults_left", "nobody_heals")
def test_a_master_whose_disk_is_full_is_passed_over(demo):
    victim = backup(demo)["member"]
    lab("fault", "fill-disk", victim)
    assert backup(demo)["member"] != victim
