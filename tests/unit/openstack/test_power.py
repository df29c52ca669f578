"""Servers are powered off and on until Nova says so."""

from types import SimpleNamespace
from typing import Any

import openstack.exceptions
import pytest

from managed_k8s.openstack import power
from managed_k8s.openstack.connection import CloudError


class Nova:
    """One server, which does what it is told, or not.

    stuck: it never gets to the status that is waited for.
    """

    def __init__(self, status="ACTIVE", stuck=False, conflict=False):
        self.one = SimpleNamespace(id="id", name="demo-worker-1", status=status)
        self.stuck, self.conflict, self.asked = stuck, conflict, []

    def servers(self, **_):
        return [self.one] if self.one else []

    def _ask(self, what, status):
        self.asked.append(what)
        if self.conflict:
            raise openstack.exceptions.ConflictException("task state")
        self.one.status = status

    def start_server(self, server):
        self._ask("start", "ACTIVE")

    def stop_server(self, server):
        self._ask("stop", "SHUTOFF")

    def reboot_server(self, server, kind):
        self._ask(kind, "ACTIVE")

    def wait_for_server(self, server, status, **_):
        if self.stuck or (status == "HARD_REBOOT"):
            raise openstack.exceptions.ResourceTimeout("in time")
        assert self.one.status == status


def connection(**how):
    nova = Nova(**how)
    made: Any = SimpleNamespace(compute=nova)
    return made, nova


def test_off_and_on():
    conn, nova = connection()
    power.off(conn, "demo-worker-1")
    power.off(conn, "demo-worker-1")
    power.on(conn, "demo-worker-1")
    power.on(conn, "demo-worker-1")
    power.cycle(conn, "demo-worker-1")
    assert nova.asked == ["stop", "start", "HARD"]


def test_it_is_said_when_it_cannot_be():
    for act, status in ((power.off, "ACTIVE"), (power.cycle, "ERROR")):
        with pytest.raises(CloudError, match="cannot be"):
            act(connection(status=status, conflict=True)[0], "demo-worker-1")
    for act, status in ((power.off, "ACTIVE"), (power.on, "SHUTOFF"), (power.cycle, "ACTIVE")):
        with pytest.raises(CloudError, match="not known to"):
            act(connection(status=status, stuck=True)[0], "demo-worker-1")


def test_one_that_is_gone_is_off_and_cannot_be_started():
    conn, nova = connection()
    nova.one = None
    power.off(conn, "demo-worker-1")
    for act in (power.on, power.cycle):
        with pytest.raises(CloudError, match="is gone"):
            act(conn, "demo-worker-1")
