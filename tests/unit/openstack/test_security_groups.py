"""Who may talk to whom, as a table: every rule that is not here is a hole."""

import typing

import pytest

from managed_k8s.config.sections import Kubernetes
from managed_k8s.names import GATEWAY, MASTER, WORKER
from managed_k8s.openstack import security_groups
from tests.support.settings import settings

OPENSTACK = {
    "network_cidr": "10.30.0.0/24",
    "api_allowed_cidrs": ["198.51.100.0/24"],
    "ssh_allowed_cidrs": ["203.0.113.7/32"],
}
OWN_NETWORK = {
    f"{port} from {role}" for port in ("udp 4789", "udp 6081", "tcp 4240", "tcp 5473") for role in (MASTER, WORKER)
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
        "tcp 10250 from worker",
        "udp 8472 from master",
        "udp 8472 from worker",
    },
    WORKER: {
        "tcp 22 from gateway",
        "tcp 10250 from master",
        "tcp 10250 from worker",
        "udp 8472 from master",
        "udp 8472 from worker",
    },
}


def found(role, cni):
    whole = settings(openstack=OPENSTACK, kubernetes={"cni": cni})
    return {rule.words for rule in security_groups.of_role(role, whole)}


@pytest.mark.parametrize("role", TABLE)
def test_lets_in_what_the_role_needs_and_nothing_else(role):
    assert found(role, "flannel") == TABLE[role] | PING


@pytest.mark.parametrize("role", TABLE)
def test_a_network_that_the_operator_brings_reaches_nodes_and_nobody_else(role):
    assert found(role, "none") == TABLE[role] | PING | (OWN_NETWORK if role != GATEWAY else set())


def test_the_digest_changes_with_the_rules_not_with_their_order(monkeypatch):
    whole = settings(openstack=OPENSTACK)
    before = security_groups.digest(whole)
    assert security_groups.digest(whole) == before
    monkeypatch.setattr(security_groups, "KUBELET", 10255)
    assert security_groups.digest(whole) != before


def test_every_pod_network_of_the_settings_has_rules():
    known = typing.get_args(Kubernetes.model_fields["cni"].annotation)
    assert set(known) == set(security_groups.NETWORKS)
