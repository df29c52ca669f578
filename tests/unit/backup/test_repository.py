"""Real borg on folders of the test's own."""

import datetime
import json
import os
import re
import shutil
import stat
import subprocess
import time
from types import SimpleNamespace

import psutil
import pytest

from managed_k8s.backup import retention
from managed_k8s.backup.repository import KNOWN, PASSPHRASE, BorgError, Repository
from managed_k8s.state.store import Store


@pytest.fixture
def vault(tmp_path):
    return Store(tmp_path / "salt", "demo", "managed_k8s_backups")


@pytest.fixture
def repository(tmp_path, vault):
    return Repository(str(tmp_path / "repository"), vault, lock_wait=1)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "files"
    made.mkdir()
    (made / "ca.key").write_text("a key")
    return made


def write(repository, name, folder, content=b"database", comment='{"revision": 1}'):
    with repository.writing(name, "etcd.db", folder, ["ca.key"]) as archive:
        archive.write(content)
        archive.comment = comment


def locked(repository):
    """Return a borg that holds the repository's lock."""
    with repository._passphrase() as handle:
        holder = subprocess.Popen(
            ["borg", "with-lock", repository.location, "sleep", "60"],
            env=repository._environment(handle), pass_fds=[handle],
        )  # fmt: skip
    while not (repository.folder / "lock.exclusive").exists():
        time.sleep(0.05)
    return holder


def end(process):
    children = psutil.Process(process.pid).children()
    process.kill()
    process.wait()
    for child in children:
        child.kill()


def names(repository):
    return [archive["name"] for archive in repository.archives()]


def test_is_made_when_there_never_was_one_and_gives_back_what_it_got(repository, folder, tmp_path):
    assert repository.archives() == []
    write(repository, "one", folder, comment='{"a {brace}": [1]}')
    (found,) = repository.archives()
    assert (found["name"], found["comment"]) == ("one", '{"a {brace}": [1]}')
    target = tmp_path / "target"
    target.mkdir()
    repository.extract("one", target)
    assert (target / "etcd.db").read_bytes() == b"database"
    assert (target / "ca.key").read_text() == "a key"


def test_nothing_in_it_is_readable_without_the_passphrase(repository, folder, vault):
    repository.archives()
    write(repository, "one", folder, b"a secret in the database" * 99)
    found = b"".join(file.read_bytes() for file in repository.folder.rglob("*") if file.is_file())
    assert b"a secret in the database" not in found
    assert b"a key" not in found
    assert stat.S_IMODE(vault.path(PASSPHRASE).stat().st_mode) == 0o600
    vault.write_text(PASSPHRASE, "another")
    with pytest.raises(BorgError, match="passphrase"):
        repository.archives()


def test_an_interrupted_archive_is_none(repository, folder):
    repository.archives()

    def torn(archive):
        archive.write(b"x" * 5_000_000)
        raise RuntimeError("torn")

    with pytest.raises(RuntimeError, match="torn"), repository.writing("one", "etcd.db", folder, ["ca.key"]) as archive:
        torn(archive)
    assert names(repository) == []
    # The one that was killed holds no lock.
    write(repository, "two", folder)
    assert names(repository) == ["two"]


def test_a_file_that_cannot_be_read_leaves_the_archive_without_a_comment(repository, folder):
    repository.archives()
    with pytest.raises(BorgError), repository.writing("one", "etcd.db", folder, ["ca.key"]):
        # Borg only warns of it.
        (folder / "ca.key").unlink()
    assert [archive["comment"] for archive in repository.archives()] == [""]


def test_a_locked_repository_is_said_to_be_and_works_again_after(repository, folder):
    repository.archives()
    holder = locked(repository)
    try:
        with pytest.raises(BorgError, match="break-lock") as caught:
            write(repository, "one", folder)
        assert caught.value.kind == "LockTimeout"
    finally:
        end(holder)
    write(repository, "one", folder)
    assert names(repository) == ["one"]


def test_a_killed_borgs_lock_is_no_obstacle(repository, folder):
    repository.archives()
    end(locked(repository))
    write(repository, "one", folder)
    assert names(repository) == ["one"]


def test_one_that_is_gone_is_not_made_anew(repository, folder):
    repository.archives()
    shutil.rmtree(repository.folder)
    with pytest.raises(BorgError, match="does not exist"):
        repository.archives()
    assert not repository.folder.exists()


def test_another_one_at_its_place_is_not_taken_for_it(repository, folder, vault):
    repository.archives()
    vault.write(KNOWN, {repository.location: "f" * 64})
    with pytest.raises(BorgError, match="another repository than before"):
        repository.archives()


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_said_to_be_and_leaves_no_archive(tmp_path, vault, folder):
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=800m", "tmpfs", mount], check=True)
    try:
        repository = Repository(str(mount / "repository"), vault, lock_wait=1)
        repository.archives()
        write(repository, "small", folder)
        subprocess.run(["mount", "-o", "remount,size=3m", mount], check=True)
        with pytest.raises(BorgError, match="disk is full") as caught:
            write(repository, "large", folder, os.urandom(8_000_000))
        assert caught.value.kind == "Full"
        assert names(repository) == ["small"]
        subprocess.run(["mount", "-o", "remount,size=800m", mount], check=True)
        write(repository, "small too", folder)
        assert names(repository) == ["small", "small too"]
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_repository_on_another_machine_is_reached_by_ssh(tmp_path, vault, folder, monkeypatch):
    """The way there is a program that runs what ssh would have the other machine run: borg's server."""
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/asked\nshift\nexec "$@"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("BORG_RSH", str(ssh))
    repository = Repository(f"ssh://backup.example{tmp_path}/elsewhere", vault, lock_wait=1)
    repository.archives()
    write(repository, "one", folder)
    assert names(repository) == ["one"]
    assert (tmp_path / "elsewhere" / "config").is_file()
    assert set((tmp_path / "asked").read_text().split()) == {"backup.example"}
    with repository._passphrase() as handle:
        assert repository._environment(handle)["BORG_RSH"] == str(ssh)
        monkeypatch.delenv("BORG_RSH")
        assert "ServerAliveInterval" in repository._environment(handle)["BORG_RSH"]


POLICY = {"last": 4, "hourly": 5, "daily": 4, "weekly": 3, "monthly": 2}


@pytest.mark.slow
def test_60_backups_by_the_policy_are_what_borg_itself_would_keep(repository, folder, monkeypatch):
    """One of every five hours, over twelve days and a half; borg's own pruning is asked for the same words."""
    repository.archives()
    times = [1795527551 - n * 5 * 3600 for n in range(60)]
    for at in times:
        clock = datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        repository._run("create", "--timestamp", clock, f"{repository.location}::b{at}", "ca.key", cwd=folder)
    backups = [SimpleNamespace(name=f"b{at}", time=at, good=True, proven=False) for at in times]
    kept = set(retention.keep(backups, POLICY))
    monkeypatch.setenv("TZ", "UTC")
    assert kept == borgs_choice(repository)
    repository.delete([backup.name for backup in backups if backup.name not in kept])
    assert set(names(repository)) == kept == borgs_choice(repository)


def borgs_choice(repository):
    """Return what `borg prune` would keep."""
    words = [f"--keep-{rule}={count}" for rule, count in POLICY.items()]
    with repository._passphrase() as handle:
        done = subprocess.run(
            ["borg", "prune", "--dry-run", "--list", *words, repository.location], capture_output=True, text=True,
            check=True, env=repository._environment(handle), pass_fds=[handle],
        )  # fmt: skip
    return set(re.findall(r"^Keeping archive \(rule: .*?\): +(\S+)", done.stderr, re.MULTILINE))


def test_errors_are_words(repository):
    log = json.dumps({"type": "log_message", "levelname": "ERROR", "message": "It\nis so", "msgid": "Odd"})
    assert str(repository._error(f"noise\n{log}\n")) == f"{repository.location}: It"
    assert "borg failed" in str(repository._error(""))
