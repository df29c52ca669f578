"""Who may talk to whom, as a table: every rule that is not here is a hole."""

import pytest

from managed_k8s.cloud import rules
from managed_k8s.naming import GATEWAY, MASTER, WORKER

OPENSTACK = {
    "network_cidr": "10.30.0.0/24",
    "api_allowed_cidrs": ["198.51.100.0/24"],
    "ssh_allowed_cidrs": ["203.0.113.7/32"],
}
PING = {f"icmp from {role}" for role in (GATEWAY, MASTER, WORKER)}
TABLE = {
    GATEWAY: {
        "tcp 6443 from 198.51.100.0/24",
        "tcp 6443 from 10.30.0.0/24",
        "tcp 22 from 203.0.113.7/32",
        "112 from gateway",
    },
    MASTER: {
        "tcp 22 from gateway",
        "tcp 6443 from gateway",
        "tcp 6443 from master",
        "tcp 6443 from worker",
        "tcp 2379-2380 from master",
        "tcp 10250 from master",
        "udp 8472 from master",
        "udp 8472 from worker",
    },
    WORKER: {
        "tcp 22 from gateway",
        "tcp 10250 from master",
        "udp 8472 from master",
        "udp 8472 from worker",
    },
}


@pytest.mark.parametrize("role", TABLE)
def test_lets_in_what_the_role_needs_and_nothing_else(role):
    assert {rule.words for rule in rules.of_role(role, OPENSTACK)} == TABLE[role] | PING
