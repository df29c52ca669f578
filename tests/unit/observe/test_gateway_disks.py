"""What gateways say of their disks over SSH: a program in ssh's place answers as df does."""

import pytest

from managed_k8s.config import load
from managed_k8s.config.cluster_map import MapError
from managed_k8s.observe.gateway_disks import Disks
from managed_k8s.state.store import Store

SERVERS = {
    "demo-gateway-1": {"id": "one", "floating_ip": "203.0.113.1"},
    "demo-gateway-2": {"id": "two", "floating_ip": "203.0.113.2"},
    "demo-gateway-3": {"id": "three", "floating_ip": None},
}


@pytest.fixture
def disks(tmp_path, monkeypatch):
    keys = {"demo-gateway-1": {"ssh_username": "core", "ssh_key_file": "/keys/mine"}}
    monkeypatch.setattr(load, "keys", lambda opts, cluster: keys)
    return Disks({}, Store(tmp_path, "demo"))


@pytest.fixture
def answers(tmp_path, monkeypatch):
    """Return a function that sets what each address answers: lines after the heading, or an exit code."""
    program = tmp_path / "bin/ssh"
    program.parent.mkdir()
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")

    def write(**answers):
        cases = "\n".join(
            f"*@203.0.113.{name.removeprefix('gateway')}*) "
            + (f"exit {answer};;" if isinstance(answer, int) else f"printf ' Avail 1B-blocks\\n{answer}';;")
            for name, answer in answers.items()
        )
        program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/words\ncase "$*" in\n{cases}\nesac\n')
        program.chmod(0o755)

    return write


@pytest.mark.parametrize(
    ("answer", "full"),
    [
        ("50 100\\n50 100\\n", {"demo-gateway-1": False}),
        ("50 100\\n4 100\\n", {"demo-gateway-1": True}),
        ("0 100\\n50 100\\n", {"demo-gateway-1": True}),
        ("5 100\\n5 100\\n", {"demo-gateway-1": False}),
        ("- -\\n", {}),
        (255, {}),
        (1, {}),
    ],
)
def test_less_than_a_twentieth_of_any_disk_is_full(disks, answers, answer, full):
    answers(gateway1=answer)
    assert disks.full(["demo-gateway-1"], SERVERS) == full


def test_each_is_asked_as_it_was_made_and_those_without_a_floating_ip_are_not(disks, answers, tmp_path):
    answers(gateway1="0 100\\n", gateway2="50 100\\n")
    assert disks.full(list(SERVERS), SERVERS) == {"demo-gateway-1": True, "demo-gateway-2": False}
    first, second = sorted((tmp_path / "words").read_text().splitlines(), key=lambda line: "203.0.113.2" in line)
    assert "-i /keys/mine" in first
    assert "core@203.0.113.1 df" in first
    assert first.count("known_hosts/one") == 1
    assert f"-i {disks.store.folder}/ssh_key" in second
    assert "debian@203.0.113.2 df" in second


def test_nobody_is_asked_while_the_map_cannot_be_read(disks, answers, tmp_path, monkeypatch):
    def fail(opts, cluster):
        raise MapError("cluster.map: no such file")

    monkeypatch.setattr(load, "keys", fail)
    answers(gateway1="0 100\\n")
    assert disks.full(["demo-gateway-1"], SERVERS) == {}
    assert not (tmp_path / "words").exists()
