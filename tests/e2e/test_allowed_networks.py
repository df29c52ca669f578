"""Who may reach a cluster that runs is changed in its settings."""

from __future__ import annotations

import contextlib
import socket

import pytest

from tests.support.project import eventually

pytestmark = pytest.mark.timeout(1800)

API, SSH = 6443, 22


def listens(address, port):
    with contextlib.suppress(OSError), socket.create_connection((address, port), 3):
        return True
    return False


@pytest.fixture
def nobody_by_ssh(demo):
    """Settings by which nobody here may reach gateways by SSH, for a while."""
    file = demo.checkout.root / "pillar/clusters/demo.sls"
    before = file.read_text()
    file.write_text(before.replace("  openstack:\n", "  openstack:\n    ssh_allowed_cidrs: [192.0.2.0/24]\n"))
    try:
        yield
    finally:
        file.write_text(before)
        demo.checkout.run("salt-run", "managed_k8s.reconcile", demo.name, "yes=True", timeout=900)
        demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, timeout=900)


@pytest.fixture
def gateways(demo):
    return [server["floating_ip"] for server in demo.servers.values() if server["role"] == "gateway"]


def test_who_may_log_in_to_gateways_is_changed_and_nothing_else(demo, gateways, nobody_by_ssh):
    assert all(listens(address, SSH) for address in gateways)
    assert demo.verb("plan")["steps"] == ["correct network and security groups"]
    demo.checkout.run("salt-run", "managed_k8s.reconcile", demo.name, timeout=900)
    demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, timeout=900)
    eventually(lambda: not any(listens(address, SSH) for address in gateways), 60, interval=2)
    assert listens(demo.public_address, API)
    assert demo.verb("plan")["steps"] == []


def test_the_settings_of_before_let_them_in_again(gateways):
    eventually(lambda: all(listens(address, SSH) for address in gateways), 60, interval=2)
