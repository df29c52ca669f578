import pytest

from managed_k8s.backup.health import problems
from managed_k8s.config.cron import previous
from managed_k8s.config.sections import Backup
from managed_k8s.state.attempts import Attempts
from tests.support.backups import record

SETTINGS = Backup()
NOW = 1795527551
LATEST = previous(SETTINGS.schedule, NOW)
GOOD = Attempts(begun=LATEST, done=LATEST)
DRILLED = Attempts(begun=NOW - 3600, done=NOW - 3600)


def wrong(records=(), backups=GOOD, drills=DRILLED, now=NOW):
    return problems(SETTINGS, records, backups, drills, now)


def test_nothing_is_wrong_with_a_new_one():
    assert wrong([record(LATEST)]) == []


def test_a_cluster_without_a_backup_is_not_well():
    assert "no good backup" in wrong()[0]


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ({"records": [record(NOW - 4000)]}, "67 minutes old"),
        (
            {"backups": Attempts(begun=NOW, failures=3, why="the disk is full")},
            "3 times in a row now: the disk is full",
        ),
        ({"backups": Attempts(begun=NOW - 2400, done=NOW - 2400)}, "was missed"),
        ({"drills": Attempts(begun=NOW, failures=1, why="no etcd")}, "drill failed: no etcd"),
        ({"drills": Attempts(begun=NOW - 2 * 86400, done=NOW - 2 * 86400)}, "drill of 2026-11-24 02:30 UTC was missed"),
        ({"records": [record(LATEST), record(NOW - 1800, problem="torn")]}, "is not good: torn"),
    ],
)
def test_names_what_is_wrong(what, words):
    found = wrong(**{"records": [record(LATEST)], **what})
    assert len(found) == 1
    assert words in found[0]


def test_a_bad_newest_one_is_not_the_newest_good_one():
    found = wrong([record(LATEST, problem="torn"), record(NOW - 4000)])
    assert len(found) == 2
    assert "67 minutes old" in found[0]


def test_a_new_cluster_is_not_blamed_for_yesterdays_drill():
    assert wrong([record(LATEST)], drills=Attempts()) == []


def test_a_backup_under_way_is_not_missed():
    late = previous(SETTINGS.schedule, NOW) + 300
    before = Attempts(begun=LATEST - 900, done=LATEST - 900)
    assert wrong([record(LATEST - 900)], backups=before, now=late) == []
