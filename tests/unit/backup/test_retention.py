"""Retention by itself; tests/unit/backup/test_repository.py compares it with borg's."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from managed_k8s.backup.retention import keep

RULES = ("last", "hourly", "daily", "weekly", "monthly")
NOW = 1795527551


@dataclasses.dataclass(frozen=True)
class Backup:
    name: str
    time: float
    good: bool = True
    proven: bool = False


def every(seconds, count, **more):
    return [Backup(f"b{n}", NOW - n * seconds, **more) for n in range(count)]


BACKUPS = st.lists(
    st.tuples(st.integers(0, 400 * 86400), st.booleans(), st.booleans()), max_size=60, unique_by=lambda found: found[0]
).map(lambda every: [Backup(f"b{age}", NOW - age, good, proven) for age, good, proven in every])
POLICIES = st.fixed_dictionaries({rule: st.integers(0, 10) for rule in RULES})


def test_keeps_the_last():
    assert set(keep(every(60, 60), {"last": 5})) == {"b0", "b1", "b2", "b3", "b4"}


def test_a_day_of_quarters_of_an_hour():
    kept = keep(every(900, 96), {"last": 4, "hourly": 6, "daily": 2})
    reasons = list(kept.values())
    assert [reasons.count(rule) for rule in ("last", "hourly", "daily")] == [4, 6, 2]
    assert sum(1 for name in kept if name == "b95") == 1


@given(BACKUPS, POLICIES)
def test_the_newest_good_one_always_stays(backups, policy):
    kept = keep(backups, policy)
    good = max((backup for backup in backups if backup.good), key=lambda backup: backup.time, default=None)
    assert good is None or good.name in kept
    proven = [backup for backup in backups if backup.good and backup.proven]
    assert not proven or max(proven, key=lambda backup: backup.time).name in kept


@given(BACKUPS, POLICIES)
def test_no_rule_keeps_more_than_it_may(backups, policy):
    reasons = list(keep(backups, policy).values())
    for rule in RULES:
        assert reasons.count(rule) <= policy[rule]
    assert reasons.count("newest good") <= 1


@given(BACKUPS, POLICIES)
def test_pruning_again_removes_nothing(backups, policy):
    kept = keep(backups, policy)
    left = [backup for backup in backups if backup.name in kept]
    assert set(keep(left, policy)) == set(kept)


@given(st.sampled_from([60, 900, 6000, 86400]), POLICIES)
def test_pruning_after_each_leaves_what_pruning_once_would(seconds, policy):
    made = every(seconds, 60)[::-1]
    left: list[Backup] = []
    for backup in made:
        left.append(backup)
        kept = keep(left, policy)
        left = [one for one in left if one.name in kept]
    assert {one.name for one in left} == set(keep(made, policy))


@given(BACKUPS, POLICIES, st.randoms())
def test_order_does_not_matter(backups, policy, random):
    shuffled = list(backups)
    random.shuffle(shuffled)
    assert keep(shuffled, policy) == keep(backups, policy)


@given(BACKUPS, POLICIES, st.sampled_from(RULES))
def test_a_policy_that_keeps_more_keeps_what_was_kept(backups, policy, rule):
    more = {**policy, "last": policy["last"] + 3}
    newest = sorted(backups, key=lambda backup: -backup.time)[: more["last"]]
    assert {backup.name for backup in newest} <= set(keep(backups, more))
