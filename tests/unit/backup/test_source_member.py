import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_k8s.backup.source_member import Member, NoMemberError, choose

MEMBERS = st.lists(
    st.builds(
        Member,
        name=st.sampled_from([f"demo-master-{n}" for n in range(1, 6)]),
        leader=st.booleans(),
        revision=st.integers(0, 5),
        problem=st.sampled_from(["", "", "unhealthy"]),
    ),
    unique_by=lambda member: member.name,
)


@given(MEMBERS)
def test_is_healthy_and_not_the_leader_if_there_is_a_choice(members):
    healthy = [member for member in members if not member.problem]
    if not healthy:
        with pytest.raises(NoMemberError):
            choose(members)
        return
    chosen = choose(members)
    assert chosen in healthy
    if any(not member.leader for member in healthy):
        assert not chosen.leader
        assert chosen.revision == max(member.revision for member in healthy if not member.leader)


@given(MEMBERS, st.sampled_from([f"demo-master-{n}" for n in range(1, 6)]))
def test_the_one_of_the_last_backup_is_preferred_to_those_that_are_as_good(members, before):
    healthy = {member.name: member for member in members if not member.problem}
    if before in healthy and not healthy[before].leader:
        assert choose(members, before).name == before


def test_one_that_is_far_behind_is_not_chosen_because_it_was_before():
    members = [Member("demo-master-1", revision=10), Member("demo-master-2", revision=2000)]
    assert choose(members, "demo-master-1").name == "demo-master-2"


def test_says_of_each_why_not():
    with pytest.raises(NoMemberError, match=r"demo-master-1: ill; demo-master-2: silent"):
        choose([Member("demo-master-2", problem="silent"), Member("demo-master-1", problem="ill")])
    with pytest.raises(NoMemberError, match="no master is connected"):
        choose([])
