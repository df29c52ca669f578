"""What a server says of itself: what works on it, what does not, and whether a gateway has the API's address."""

import subprocess
from types import SimpleNamespace

import pytest

from tests.support.minion_modules import load_module

HELD = "2: ens3    inet 10.30.0.5/32 scope global ens3\\       valid_lft forever preferred_lft forever\n"


def facts(role):
    return load_module("managed_k8s_facts", {"managed_k8s": {"role": role, "virtual_ip": "10.30.0.5"}})


@pytest.fixture
def printing(monkeypatch):
    asked = []

    def prepare(output, code=0):
        def run(command, **options):
            asked.append([*command])
            return subprocess.CompletedProcess(command, code, output, "")

        monkeypatch.setattr(subprocess, "run", run)
        return asked

    return prepare


@pytest.mark.parametrize(("output", "code", "holds"), [(HELD, 0, True), ("", 0, False), ("", 1, None)])
def test_a_gateway_says_whether_it_has_it(printing, output, code, holds):
    module = facts("gateway")
    asked = printing(output, code)
    assert module._has_virtual_ip() is holds
    assert asked == [["ip", "-oneline", "address", "show", "to", "10.30.0.5/32"]]


@pytest.mark.parametrize("role", ["master", "worker"])
def test_others_do_not_say(printing, role):
    asked = printing(HELD)
    assert facts(role)._has_virtual_ip() is None
    assert asked == []


def test_a_minion_without_a_pillar_does_not_say(printing):
    module = facts("gateway")
    module.__pillar__ = {}
    assert module._has_virtual_ip() is None


@pytest.fixture
def master(monkeypatch):
    """A master that is initialised, and on which every service runs."""
    found = facts("master")
    found.__salt__["managed_k8s_kubeadm.state"] = lambda: "initialised"
    monkeypatch.setattr(found, "_dead", lambda services: [])
    return found


@pytest.mark.parametrize(("free", "found"), [(6, []), (4, ["disk"])])
def test_a_disk_ails_before_it_is_full(master, monkeypatch, free, found):
    monkeypatch.setattr(master.common, "listens", lambda port: True)
    disks = {"/": SimpleNamespace(total=100, free=50), "/var/lib": SimpleNamespace(total=100, free=free)}
    monkeypatch.setattr(master.shutil, "disk_usage", disks.get)
    assert master.ailments() == found
    assert master._disk_free() == free / 100


def test_an_etcd_that_cannot_open_its_data_ails_though_it_takes_connections_at_times(master, monkeypatch):
    monkeypatch.setattr(master, "_FREE", 0)
    for ports, found in (((2379,), ["etcd"]), ((2379, 2381), [])):
        monkeypatch.setattr(master.common, "listens", ports.__contains__)
        assert master.ailments() == found


def test_a_server_that_is_still_being_made_ails_from_nothing(master):
    master.__salt__["managed_k8s_kubeadm.state"] = lambda: "partial"
    assert master.ailments() == []
