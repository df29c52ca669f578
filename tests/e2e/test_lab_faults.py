"""Each fault does what it says, as a user sees it, and is undone."""

from __future__ import annotations

import json
import time
from itertools import pairwise

import pytest
import requests

from tests.support.command_line import lab
from tests.support.project import SSHError, eventually

pytestmark = pytest.mark.timeout(600)

# Writes down every second that it ran: a gap says that it was stopped.
TICK = "sh -c 'while :; do date +%s >> /tmp/ticks; sleep 1; done'"


@pytest.fixture(scope="module")
def server(project):
    return project.make_server("victim")


@pytest.fixture(scope="module")
def witness(project):
    return project.make_server("witness")


@pytest.fixture(autouse=True)
def no_faults_left():
    lab("fault", "clear")
    yield
    lab("fault", "clear")


@pytest.fixture
def ticking(server):
    server.ssh(f"sudo rm -f /tmp/ticks; sudo systemd-run --unit=tick --collect {TICK}")
    eventually(lambda: server.ssh("cat /tmp/ticks"), 10)
    yield
    server.ssh("sudo systemctl stop tick || true")


def longest_pause(server):
    times = [int(line) for line in server.ssh("cat /tmp/ticks").splitlines()]
    return max(later - earlier for earlier, later in pairwise(times))


def in_force():
    return {(fault["name"], fault["label"]) for fault in json.loads(lab("fault", "list", "--json").stdout)}


def is_silent(server, witness):
    """Whether it answers neither the host nor its neighbour, not even its neighbour's ARP requests."""
    witness.ssh(f"sudo ip neighbour flush to {server.address}")
    heard = server.answers() or witness.pings(server.address)
    return not heard and "lladdr" not in witness.ssh(f"ip neighbour show to {server.address}")


# Servers


def test_power_loss_silences_a_server_at_once_until_it_is_undone(server, witness):
    started = server.started
    server.ssh("echo kept > kept; sync")
    lab("fault", "power-loss", server.name)
    assert is_silent(server, witness)
    assert in_force() == {("power-loss", server.name)}
    lab("fault", "undo", "power-loss", server.name)
    server.wait_for_boot_after(started)
    assert server.ssh("cat kept") == "kept"


@pytest.mark.usefixtures("ticking")
def test_frozen_server_is_silent_and_goes_on_where_it_was(server, witness):
    started, process = server.started, server.ssh("sudo systemctl show --property=MainPID tick")
    lab("fault", "freeze", server.id)
    time.sleep(4)
    assert is_silent(server, witness)
    lab("fault", "undo", "freeze", server.id)
    eventually(server.answers, 20)
    assert server.started == started
    assert server.ssh("sudo systemctl show --property=MainPID tick") == process
    assert longest_pause(server) >= 4


@pytest.mark.usefixtures("ticking")
def test_server_that_is_cut_off_is_silent_but_works_on(server, witness):
    started = server.started
    lab("fault", "cut", server.name)
    time.sleep(4)
    assert is_silent(server, witness)
    lab("fault", "undo", "cut", server.name)
    eventually(server.answers, 20)
    assert server.started == started
    assert longest_pause(server) <= 3
    assert witness.pings(server.address)


def test_full_disk_takes_no_more_until_it_is_undone(server):
    lab("fault", "fill-disk", server.name)
    with pytest.raises(SSHError, match="No space left on device"):
        server.ssh("head --bytes=1M /dev/urandom > more")
    lab("fault", "undo", "fill-disk", server.name)
    server.ssh("head --bytes=1M /dev/urandom > more && rm more")


# The cloud's API


@pytest.fixture(scope="module")
def ask(cloud):
    """Ask an endpoint what versions it has, without any client's retries: its status code."""
    trust = cloud.config.config["cacert"]
    origins = {
        entry["name"]: "/".join(endpoint["url"].split("/")[:3]) + "/"
        for entry in cloud.service_catalog
        for endpoint in entry["endpoints"]
        if endpoint["interface"] == "public"
    }

    def ask(service):
        return requests.get(origins[service], verify=trust, timeout=30).status_code

    return ask


def test_api_errors_come_at_the_given_rate_from_the_given_service(ask):
    lab("fault", "api-error", "nova", "--rate", "1.0")
    assert [ask("nova") for _ in range(10)] == [503] * 10
    assert 503 not in [ask("keystone") for _ in range(10)]
    lab("fault", "api-error", "nova", "--rate", "0.5")
    # Of 60 requests 15 to 45 fail, but for one run in ten thousand.
    assert 15 <= [ask("nova") for _ in range(60)].count(503) <= 45
    lab("fault", "undo", "api-error", "nova")
    assert 503 not in [ask("nova") for _ in range(10)]


def seconds(ask, service):
    start = time.monotonic()
    assert ask(service) < 500
    return time.monotonic() - start


def test_slow_api_takes_its_time(ask):
    lab("fault", "api-slow", "cinder", "--delay", "3", "--rate", "1.0")
    assert 3 <= seconds(ask, "cinder") < 8
    assert seconds(ask, "keystone") < 2.5
    lab("fault", "undo", "api-slow", "cinder")
    assert seconds(ask, "cinder") < 2.5


def test_stopped_service_does_not_answer_until_it_is_started(ask):
    assert ask("cinder") < 500
    lab("fault", "stop-service", "cinder-api")
    assert ask("cinder") == 503
    lab("fault", "undo", "stop-service", "cinder-api")
    eventually(lambda: ask("cinder") < 500, 60)


# Undoing


def test_clear_undoes_everything(server, witness, ask):
    lab("fault", "cut", server.name)
    lab("fault", "api-error", "neutron")
    assert in_force() == {("cut", server.name), ("api-error", "neutron")}
    assert ask("neutron") == 503
    lab("fault", "clear")
    assert in_force() == set()
    assert ask("neutron") < 500
    eventually(server.answers, 20)


def test_wrong_faults_are_refused_with_what_there_is(server):
    refused = lab("fault", "cut", "no-such-server", check=False)
    assert refused.returncode == 1
    assert server.name in refused.stderr
    refused = lab("fault", "stop-service", "sshd", check=False)
    assert refused.returncode == 1
    assert "cinder-api" in refused.stderr
    assert lab("fault", "undo", "cut", server.name, check=False).returncode == 1
    assert in_force() == set()
