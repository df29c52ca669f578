"""Backups from a master that is a dictionary into a real borg repository."""

import os
import shutil
import signal
import subprocess
import time
from types import SimpleNamespace
from typing import Any

import pytest

from managed_k8s.backup import drill, retention, service, upload
from managed_k8s.backup.digest import Seal
from managed_k8s.backup.repository import BorgError, Repository
from managed_k8s.backup.service import BackupError, Backups
from managed_k8s.backup.source_member import NoMemberError
from managed_k8s.minions.jobs import JobError
from managed_k8s.state import attempts
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from tests.support import backups as helpers
from tests.support.settings import settings

# Many runs of borg: a quarter of a minute each.
pytestmark = pytest.mark.slow


@pytest.fixture
def master(tmp_path):
    return helpers.Master({"cachedir": str(tmp_path / "cache")})


@pytest.fixture
def made(tmp_path, master) -> Any:
    store = Store(tmp_path / "salt", "demo")
    vault = Store(tmp_path / "salt", "demo", "managed_k8s_backups")
    return Backups(master.opts, store, vault, helpers.SETTINGS, master, History(store), lambda: tmp_path / "programs")


def listed(made):
    return [one.name for one in made.records()]


def test_a_backup_is_what_was_sent(made, master, tmp_path):
    taken = made.take("asked for")
    assert taken.member == "demo-master-2"
    assert made.records() == [taken] == made.listed()
    target = tmp_path / "target"
    target.mkdir()
    made.repository.extract(taken.name, target)
    assert (target / "etcd.db").read_bytes() == master.content
    assert (target / "kubernetes/pki/ca.key").read_text() == "k"
    (event,) = made.history.last(1)
    assert (event["subject"], event["what"], event["id"], event["backup"]) == ("backup", "made", "demo", taken.name)


def test_nothing_is_left_where_it_arrived(made, master, tmp_path):
    made.take("asked for")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not (made.vault.folder / "scratch").exists()


def flipped(content):
    middle = len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def longer(content):
    return content + b"x"


def shorter(content):
    return content[:-1]


def half(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize("damage", [flipped, shorter, longer, half])
def test_a_snapshot_that_is_another_is_no_backup_and_said(made, master, damage):
    refuses(made, master, "spoil", damage, BackupError, "is not the one that was taken")


@pytest.mark.parametrize("damage", [flipped, shorter, half])
def test_a_piece_that_is_torn_on_its_way_is_no_backup_and_said(made, master, damage):
    refuses(made, master, "tear", damage, BackupError, "demo-master-2: the snapshot that arrived is damaged")


def test_a_piece_longer_than_agreed_is_not_read(made, master):
    refuses(made, master, "tear", lambda piece: piece + bytes(upload.PIECE), BackupError, "a piece that is longer")


def test_a_snapshot_that_grows_beyond_its_database_ends(made, master, monkeypatch):
    monkeypatch.setattr(service, "_GROWTH", 0)
    refuses(made, master, "spoil", lambda content: content * 3, BackupError, "demo-master-2: sends a snapshot of more")


def refuses(made, master, where, damage, error, words):
    """Expect that what is damaged there is no backup, and that the next one is made."""
    whole = getattr(master, where)
    setattr(master, where, damage)
    with pytest.raises(error, match=words):
        made.take("schedule")
    assert listed(made) == []
    assert words in made.attempts(service.BACKUPS).why
    assert made.history.last(1)[0]["what"] == "failed"
    setattr(master, where, whole)
    made.take("schedule")
    assert made.attempts(service.BACKUPS).failures == 0
    assert len(listed(made)) == 1


def test_an_archive_that_was_never_finished_is_in_no_list_and_removed_by_the_next_run(made, monkeypatch):
    made.repository.archives()
    run = made.repository._run
    monkeypatch.setattr(made.repository, "_run", lambda *words: dies() if words[0] == "recreate" else run(*words))
    with pytest.raises(KeyboardInterrupt):
        made.take("schedule")
    assert len(made.repository.archives()) == 1
    assert listed(made) == []
    monkeypatch.undo()
    left = made.repository.archives()[0]["id"]
    made.take("schedule")
    assert left not in [archive["id"] for archive in made.repository.archives()]
    assert len(listed(made)) == 1


def dies():
    raise KeyboardInterrupt


def test_a_snapshot_whose_end_is_no_digest_is_no_backup(made, master):
    master.content = os.urandom(70_000)
    with pytest.raises(BackupError, match="etcd's digest"):
        made.take("schedule")
    assert listed(made) == []


def test_a_master_that_dies_on_the_way_leaves_no_backup(made, master):
    master.broken = helpers.LOST
    with pytest.raises(JobError, match="went silent"):
        made.take("schedule")
    assert listed(made) == []
    master.broken = None
    made.take("schedule")
    assert len(listed(made)) == 1


def test_no_minion_is_asked_when_the_repository_is_away(made, master):
    made.take("schedule")
    shutil.rmtree(made.repository.folder)
    master.ask = None
    with pytest.raises(BorgError, match="does not exist"):
        made.take("schedule")


def test_says_why_no_member_can_give_one(made, master):
    master.ask = lambda *args, **kwargs: {}
    with pytest.raises(NoMemberError, match="demo-master-1: its minion does not answer"):
        made.take("schedule")


def test_a_disk_without_room_is_said_before_it_is_full(made, master, monkeypatch):
    made.take("schedule")
    monkeypatch.setattr(service.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 1000))
    master.run = None
    with pytest.raises(BackupError, match="has no room"):
        made.take("schedule")


def test_a_drill_without_room_says_nothing_against_the_backup(made, monkeypatch):
    made.take("schedule")
    monkeypatch.setattr(service.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 1000))
    with pytest.raises(BackupError, match="no room to try"):
        made.verify()
    assert [one.good for one in made.listed()] == [True]
    assert any("the last restore drill failed" in problem for problem in made.state()["problems"])


def test_retention_holds_after_each(made, monkeypatch):
    clock = iter(range(1795527000, 1895527000, 700))
    monkeypatch.setattr(service.time, "time", lambda: next(clock))
    taken = [made.take("schedule").name for _ in range(6)]
    assert listed(made) == taken[:-4:-1]


def test_a_bad_one_is_said_to_be_and_the_good_one_before_it_stays(made, monkeypatch):
    clock = iter(range(1795527000, 1895527000, 700))
    monkeypatch.setattr(service.time, "time", lambda: next(clock))
    monkeypatch.setattr(drill, "run", lambda *args: [])
    good = made.take("schedule").name
    assert made.verify().proven
    monkeypatch.setattr(drill, "run", lambda *args: ["torn"])
    bad = []
    for _ in range(4):
        bad.append(made.take("schedule").name)
        with pytest.raises(BackupError, match="torn"):
            made.verify(bad[-1])
    assert listed(made) == [*bad[:-4:-1], good]
    assert [one.good for one in made.records()] == [False, False, False, True]
    assert made.find(None).name == good
    monkeypatch.setattr(drill, "run", lambda *args: [])
    assert made.verify(bad[-1]).good
    assert made.find(None).name == bad[-1]


def test_a_bit_that_flipped_in_the_repository_is_found(made, tmp_path):
    taken = made.take("schedule")
    files = [path for path in (made.repository.folder / "data").rglob("*") if path.is_file()]
    segment = max(files, key=lambda path: path.stat().st_size)
    segment.write_bytes(flipped(segment.read_bytes()))
    with pytest.raises(BackupError, match="is not good"):
        made.verify(taken.name)
    assert [one.good for one in made.listed()] == [False]


def test_what_nobody_asked_for_is_removed(made, tmp_path):
    for minion in ("demo-worker-1", "demo-master-1", "other-worker-1"):
        file = tmp_path / "cache" / "minions" / minion / "files" / "etc" / "x"
        file.parent.mkdir(parents=True)
        file.write_text("x")
    assert sorted(upload.clear(made.opts, "demo")) == ["demo-master-1", "demo-worker-1"]
    assert [path.parts[-4] for path in (tmp_path / "cache").rglob("x")] == ["other-worker-1"]


def test_a_configuration_does_not_lead_out(made, master, tmp_path):
    packed = helpers.packed
    helpers.packed = lambda files: packed({**files, "../../evil": "x"})
    try:
        with pytest.raises(BackupError, match="as its configuration"):
            made.take("schedule")
    finally:
        helpers.packed = packed
    assert not list(tmp_path.rglob("evil"))


def test_first_a_backup_then_a_drill(made):
    assert made.due(1795527000) == ["backup"]
    made.take("schedule")
    assert made.due(service.time.time()) == ["drill"]


def test_a_seal_is_the_same_in_any_pieces():
    content = helpers.snapshot(1000)
    for length in (1, 7, 31, 32, 33, 5000):
        seal = Seal()
        for start in range(0, len(content), length):
            seal.update(content[start : start + length])
        assert seal.is_whole
        assert seal.size == len(content)
    short = Seal()
    short.update(b"x")
    assert not short.is_whole


# Faults of the repository


@pytest.fixture
def locked(made):
    """Somebody else uses the repository, until the test is through with it."""
    made.take("schedule")
    made.repository.lock_wait = 1
    with made.repository._passphrase() as handle:
        holder = subprocess.Popen(
            ["borg", "with-lock", made.repository.location, "sleep", "60"],
            env=made.repository._environment(handle), pass_fds=[handle], start_new_session=True,
        )  # fmt: skip
    while not (made.repository.folder / "lock.exclusive").exists():
        time.sleep(0.05)

    def release():
        os.killpg(holder.pid, signal.SIGTERM)
        holder.wait()

    yield release
    if holder.poll() is None:
        release()


def test_a_locked_repository_fails_the_backup_and_is_said_and_the_next_one_is_made(made, locked, monkeypatch):
    before = made.listed()
    later(monkeypatch)
    with pytest.raises(BorgError, match="break-lock"):
        made.take("schedule")
    assert made.listed() == before
    assert any("the last backup failed, 1 times" in problem for problem in made.state()["problems"])
    locked()
    made.take("schedule")
    assert len(listed(made)) == 2
    assert made.attempts(service.BACKUPS).failures == 0


def later(monkeypatch):
    """Let seconds pass: a backup's name has no smaller part of the time."""
    clock = iter(range(int(time.time()) + 5, 2**40, 5))
    monkeypatch.setattr(service, "time", SimpleNamespace(time=lambda: next(clock)))


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root")
def test_a_repository_whose_disk_fills_up_meanwhile_has_no_half_backup(made, master, tmp_path, monkeypatch):
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=800m", "tmpfs", mount], check=True)
    # As if somebody else took the room that there was.
    monkeypatch.setattr(service, "_RESERVE", -(1 << 40))
    try:
        made.repository = Repository(str(mount / "repository"), made.vault, lock_wait=1)
        made.take("schedule")
        later(monkeypatch)
        subprocess.run(["mount", "-o", "remount,size=3m", mount], check=True)
        master.content = helpers.snapshot(8_000_000)
        with pytest.raises(BorgError, match="disk is full"):
            made.take("schedule")
        assert len(listed(made)) == 1
        assert any("disk is full" in problem for problem in made.state()["problems"])
        subprocess.run(["mount", "-o", "remount,size=800m", mount], check=True)
        made.take("schedule")
        assert len(listed(made)) == 2
    finally:
        subprocess.run(["umount", mount], check=True)


# Retention by the schedule

POLICY = {"last": 4, "hourly": 5, "daily": 4, "weekly": 2, "monthly": 2}


@pytest.mark.timeout(900)
def test_sixty_backups_that_the_schedule_makes_leave_exactly_those_of_the_policy(made, monkeypatch):
    """A clock that goes by 100 minutes from sweep to sweep: four days in minutes."""
    clock = SimpleNamespace(now=1795527000.0)
    monkeypatch.setattr(service, "time", SimpleNamespace(time=lambda: clock.now))
    monkeypatch.setattr(attempts, "time", SimpleNamespace(time=lambda: clock.now))
    made.settings = settings(backup={"schedule": "40 * * * *", "retention": POLICY})
    every = []
    while len(every) < 60:
        clock.now += 100 * 60
        if "backup" in made.due(clock.now):
            every.append(made.take("schedule"))
        # Nothing is made twice for one time of the schedule.
        assert "backup" not in made.due(clock.now)
    kept = listed(made)
    assert set(kept) == set(retention.keep(every, POLICY))
    reasons = list(retention.keep(every, POLICY).values())
    assert [reasons.count(rule) for rule in ("last", "hourly", "daily", "weekly", "monthly")] == [4, 5, 4, 1, 0]
    assert len(kept) == 14
