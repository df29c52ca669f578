import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_k8s import names
from managed_k8s.names import Node


@given(
    cluster=st.from_regex(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True),
    role=st.sampled_from(names.ROLES),
    number=st.integers(1, 99999),
)
def test_a_nodes_id_says_all_about_it(cluster, role, number):
    node = Node(cluster, role, number)
    assert names.parse(node.id) == node


@pytest.mark.parametrize(
    "minion_id",
    [
        "",
        "demo",
        "demo-master",
        "demo-master-0",
        "demo-master-01",
        "Demo-master-1",
        "demo-boss-1",
        "demo-master-1\n",
        "1-master-1",
        "-master-1",
    ],
)
def test_other_ids_are_nobodys(minion_id):
    assert names.parse(minion_id) is None


@pytest.mark.parametrize("name", ["", "a-", "A", "a_b", "a" * 41, "1a", "a\n"])
def test_refuses_a_name_that_kubernetes_would_refuse(name):
    assert not names.is_cluster(name)
