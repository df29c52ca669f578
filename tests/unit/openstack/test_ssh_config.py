import subprocess
from pathlib import Path

import pytest
import yaml

from managed_k8s.openstack import ssh_config

SERVERS = {
    "demo-gateway-1": {
        "id": "g1",
        "role": "gateway",
        "status": "SHUTOFF",
        "address": "10.30.0.11",
        "floating_ip": "10.77.1.1",
    },
    "demo-gateway-2": {
        "id": "g2",
        "role": "gateway",
        "status": "ACTIVE",
        "address": "10.30.0.12",
        "floating_ip": "10.77.1.2",
    },
    "demo-master-1": {"id": "m1", "role": "master", "status": "ACTIVE", "address": "10.30.0.21", "floating_ip": None},
    "demo-worker-1": {"id": "w1", "role": "worker", "status": "BUILD", "address": None, "floating_ip": None},
}
PROFILES = {
    "demo-gateway-1": {"ssh_username": "debian"},
    "demo-gateway-2": {"ssh_username": "debian"},
    "demo-master-1": {"ssh_username": "ops", "ssh_gateway": "demo-gateway", "ssh_key_file": "/keys/own"},
}


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "ssh_config"
    file.write_text(ssh_config.ssh_config(SERVERS, PROFILES, Path("/st ate/ssh_key"), Path("/st ate/known_hosts")))
    return file


def asked(config, host):
    """What ssh makes of it."""
    done = subprocess.run(["ssh", "-G", "-F", config, host], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def test_a_server_inside_is_reached_through_a_gateway_that_runs(config):
    found = asked(config, "demo-master-1")
    assert found["hostname"] == "10.30.0.21"
    assert found["proxyjump"] == "demo-gateway-2"
    assert found["user"] == "ops"
    assert found["identityfile"] == "/keys/own"
    assert found["forwardagent"] == "no"


def test_a_gateway_is_reached_directly_with_the_clusters_key_and_its_own_host_key(config):
    found = asked(config, "demo-gateway-2")
    assert found["hostname"] == "10.77.1.2"
    assert "proxyjump" not in found
    assert found["identityfile"] == "/st ate/ssh_key"
    assert found["userknownhostsfile"] == "/st ate/known_hosts/g2"


def test_a_server_without_an_address_is_left_out(config):
    assert "demo-worker-1" not in config.read_text()


def test_says_what_to_type(tmp_path):
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump({"clusters": [{"cluster": {"server": "https://10.77.1.9:6443"}}]}))
    found = ssh_config.commands(kubeconfig, tmp_path / "ssh_config", SERVERS)
    assert found["api"] == "https://10.77.1.9:6443"
    assert found["ssh"].endswith("ssh_config demo-master-1")
    text = "\n".join(ssh_config.sentences({"cluster": "demo", **found}))
    assert f"export KUBECONFIG={kubeconfig}" in text
    assert "https://10.77.1.9:6443" in text
