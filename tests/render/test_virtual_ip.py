"""What a gateway says of the API's address, from what `ip` prints."""

import subprocess

import pytest

HELD = "2: ens3    inet 10.30.0.5/32 scope global ens3\\       valid_lft forever preferred_lft forever\n"


@pytest.fixture
def printing(monkeypatch):
    asked = []

    def prepare(output, code=0):
        def run(command, **options):
            asked.append(command)
            return subprocess.CompletedProcess(command, code, output, "")

        monkeypatch.setattr(subprocess, "run", run)
        return asked

    return prepare


@pytest.mark.parametrize(("output", "code", "holds"), [(HELD, 0, True), ("", 0, False), ("", 1, None)])
def test_a_gateway_says_whether_it_has_it(of, printing, output, code, holds):
    node = of("gateway").node
    asked = printing(output, code)
    assert node._has_virtual_ip() is holds
    assert asked == [["ip", "-oneline", "address", "show", "to", "10.30.0.5/32"]]


@pytest.mark.parametrize("role", ["master", "worker"])
def test_others_do_not_say(of, printing, role):
    asked = printing(HELD)
    assert of(role).node._has_virtual_ip() is None
    assert asked == []


def test_a_minion_without_a_pillar_does_not_say(of, printing):
    node = of("gateway").node
    node.__pillar__ = {}
    assert node._has_virtual_ip() is None
