"""A profile is checked as a whole: one message with everything that is wrong, before anything is made."""

import pytest

from managed_k8s.config import profiles
from tests.support.settings import PROFILE as GOOD


def test_a_good_one_has_no_problem():
    assert profiles.problems("profile p", GOOD) == []


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"flavour": "small"}, "profile p: flavour: no such key; did you mean flavor?"),
        ({"flavor": 3}, "profile p: flavor: 3 must be of type string"),
        ({"networks": []}, "profile p: networks: [] must not be empty"),
        (
            {"networks": [{"network": "demo", "fixed_ip": "10.30"}]},
            "networks.0.fixed_ip: '10.30' is no IPv4 address",
        ),
        (
            {"networks": [{"network": "demo", "allowed_address_pairs": ["10.30.0.5/24"]}]},
            "pairs.0: '10.30.0.5/24' must be an address, a network, or `port: name of a port`",
        ),
        ({"boot_volume": {"type": "fast"}}, "boot_volume.size: is missing"),
        ({"boot_volume": {"size": 1, "sort": "x"}}, "boot_volume.sort: no such key"),
        ({"metadata": {5: "a"}}, "metadata.5: 5 must be of type string"),
        ({5: "a"}, "5: no such key; there are cluster, image, flavor"),
        ({"boot_volume": {"size": 0}}, "boot_volume.size: 0 must be at least 1"),
        ({"networks": [5]}, "networks.0: 5 must be of type object"),
        ({"metadata": {"a": 1}}, "metadata.a: 1 must be of type string"),
        ({"ssh_key_name": "mine"}, "ssh_key_name: ssh_key_file is missing"),
        ({"ssh_key_file": "/nowhere"}, "ssh_key_file: there is no file /nowhere"),
        ({"ssh_timeout": "long"}, "ssh_timeout: 'long' must be of type integer"),
    ],
)
def test_says_what_is_wrong_where_and_what_is_allowed(changed, problem):
    assert any(problem in found for found in profiles.problems("profile p", {**GOOD, **changed}))


def test_says_everything_at_once():
    wrong = {"cluster": "demo", "image": 1, "netwroks": [], "boot_volume": {}}
    found = profiles.problems("profile p", wrong)
    assert len(found) == 5, found
