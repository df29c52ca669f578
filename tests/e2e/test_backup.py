"""Backups of the cluster of cluster.map: made, moved, proven, kept by the policy."""

from __future__ import annotations

import json

import pytest
from kubernetes.client import CoreV1Api, V1ConfigMap, V1ObjectMeta, V1Secret

from managed_k8s import master
from managed_k8s.backup import retention
from managed_k8s.backup.record import Record
from managed_k8s.store import Store

pytestmark = pytest.mark.timeout(1800)
NAME = "managed-k8s-backup-test"


@pytest.fixture(scope="module")
def folders(demo):
    """The cluster's store, and what keeps its backups."""
    root = master.state_folder()
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


def test_a_backup_is_made_from_a_follower_and_restored_in_a_drill(demo, object_in_etcd):
    made = demo.verb("backup")
    assert made["retcode"] == 0, made
    assert made["member"] in demo.names("master")
    assert made["member"] != leader(demo)
    tried = demo.verb("backup_verify")
    assert (tried["retcode"], tried["name"], tried["proven"]) == (0, made["name"], True)
    found = demo.verb("backups")
    assert found["backups"][0]["name"] == made["name"]


def test_nothing_of_it_stays_on_the_masters_or_where_it_arrived(demo):
    left = demo.checkout.salt("demo-master-*", "file.directory_exists", "/var/lib/managed-k8s/backup")
    assert set(left.values()) == {False}
    cache = master.state_folder() / "var" / "cache" / "salt" / "master" / "minions"
    assert not [path for path in cache.glob("demo-*/files/**/*") if path.is_file()]


def test_the_keys_and_the_passphrase_are_nowhere_in_the_open(demo, folders):
    """In no job, event, log, in nothing that a process shows, in no file that others can read."""
    store, vault = folders
    key = demo.ssh("demo-master-1", "sudo cat /etc/kubernetes/pki/sa.key").splitlines()[3]
    secrets = [(vault / "passphrase").read_bytes(), key.encode()]
    files = [
        path
        for folder in (master.state_folder() / "var", store, vault / "repository")
        for path in folder.rglob("*")
        if path.is_file() and not path.is_socket()
    ]
    assert len(files) > 20
    assert not [path for path in files if any(secret in path.read_bytes() for secret in secrets)]
    assert not [path for path in vault.rglob("*") if path.is_file() and path.stat().st_mode & 0o077]


def test_the_schedule_makes_them_and_check_says_that_all_is_well(demo, folders):
    store, _ = folders
    kept = json.loads((store / "backup.json").read_text())
    assert kept["failures"] == 0
    found = demo.verb("check")
    assert (found["retcode"], found["problems"]) == (0, [])


def test_a_secret_in_etcd_is_encrypted_in_the_backup_too(demo, folders, tmp_path):
    api = CoreV1Api(demo.api)
    api.create_namespaced_secret(
        "default", V1Secret(metadata=V1ObjectMeta(name=NAME), string_data={"word": "opensesame"})
    )
    try:
        made = demo.verb("backup")
    finally:
        api.delete_namespaced_secret(NAME, "default")
    _, vault = folders
    # By hand, as docs/backups.md says.
    archive = f"{vault / 'repository'}::{made['name']}"
    by_hand = ("env", "-C", tmp_path, f"BORG_PASSCOMMAND=cat {vault / 'passphrase'}", f"BORG_BASE_DIR={tmp_path}")
    demo.checkout.run(*by_hand, "borg", "extract", archive)
    content = (tmp_path / "etcd.db").read_bytes()
    assert NAME.encode() in content
    assert b"opensesame" not in content


def test_of_many_backups_those_of_the_policy_stay(demo):
    """Sixty, one after the other; what the schedule makes meanwhile counts too."""

    def records(found):
        return {one["name"]: Record(**{key: one[key] for key in Record.__dataclass_fields__}) for one in found}

    every = records(demo.verb("backups")["backups"])
    made = [demo.verb("backup") for _ in range(60)]
    assert all(one["retcode"] == 0 for one in made)
    left = records(demo.verb("backups")["backups"])
    every |= records(made) | left
    policy = {"last": 8, "hourly": 24, "daily": 7, "weekly": 4, "monthly": 6}
    assert set(left) == set(retention.keep(list(every.values()), policy))
