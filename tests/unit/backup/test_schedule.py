import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from managed_k8s.backup.schedule import Attempts, is_due
from managed_k8s.config.cron import is_valid, previous

QUARTERS = "*/15 * * * *"
TIMES = st.floats(1.7e9, 2e9)


def test_speaks_utc():
    # 2026-11-24 13:39:11 UTC
    assert previous(QUARTERS, 1795527551) == 1795527000
    assert previous("0 3 * * *", 1795527551) == 1795489200


def test_a_time_that_is_now_counts():
    assert previous(QUARTERS, 1795527000) == 1795527000


def test_knows_schedules():
    assert is_valid(QUARTERS)
    assert not any(map(is_valid, ("15 minutes", "* * * *", "61 * * * *", "", "* * * * * *")))


@given(TIMES)
def test_is_due_at_first_and_not_again_before_the_next_time(now):
    assert is_due(QUARTERS, Attempts(), now)
    done = Attempts().beginning(now).succeeded()
    following = previous(QUARTERS, now) + 900
    assert not is_due(QUARTERS, done, following - 1)
    assert is_due(QUARTERS, done, following)


@given(TIMES, st.integers(1, 50))
def test_what_failed_is_tried_again_later_and_later_but_never_given_up(now, failures):
    failed = Attempts(begun=now, failures=failures, why="no")
    assert not is_due(QUARTERS, failed, now + 59)
    assert is_due(QUARTERS, failed, now + 900)


def test_an_attempt_that_was_killed_counts_as_failed():
    begun = Attempts().beginning(1795527000)
    assert (begun.failures, begun.why) == (1, "it was interrupted")
    assert begun.failed("no").failures == 1
    assert begun.succeeded() == Attempts(begun=1795527000, done=1795527000)
    assert begun.seen(busy=True).failures == 0
    assert begun.seen(busy=False) == begun
    assert begun.failed("no").seen(busy=True).failures == 1
    assert Attempts.of(dataclasses.asdict(begun)) == begun
    assert Attempts.of(None) == Attempts()
