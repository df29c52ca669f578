"""A server gets everything it needs from the mirror, and only from there."""

import shlex

import pytest

from lab.settings import load

SOURCE = """Types: deb
URIs: {url}/debian
Suites: bookworm
Components: main
Signed-By: /etc/apt/keyrings/mirror.gpg
"""


@pytest.fixture(scope="module")
def url():
    return load().mirror_url


@pytest.fixture
def sources(server, url):
    server.ssh(
        f"sudo install -d /etc/apt/keyrings && sudo curl -sfo /etc/apt/keyrings/mirror.gpg {url}/debian/mirror.gpg"
    )
    text = shlex.quote(SOURCE.format(url=url))
    server.ssh(f"echo {text} | sudo tee /etc/apt/sources.list.d/mirror.sources")
    server.ssh("sudo apt-get update --error-on=any")


def test_server_comes_without_package_sources_and_secrets(server):
    assert server.ssh("cat /etc/apt/sources.list; sudo grep '^debian:' /etc/shadow").startswith("debian:!")


@pytest.mark.usefixtures("sources")
def test_apt_installs_from_the_mirror_alone(server):
    packages = "haproxy keepalived nftables conntrack ethtool socat ipset ebtables borgbackup chrony jq"
    server.ssh(f"sudo DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {packages}")
    assert "HAProxy" in server.ssh("/usr/sbin/haproxy -v")
    server.ssh("sudo apt-get check")


def test_salt_minion_installs_from_the_mirror_alone(server, url):
    index = f"--index-url {url}/pypi/simple/ --trusted-host {url.partition('://')[2]}"
    server.ssh(f"python3 -m venv salt && curl -sfo requirements.lock {url}/pypi/requirements.lock")
    server.ssh(f"salt/bin/pip install --quiet {index} --require-hashes --requirement requirements.lock")
    assert server.ssh("salt/bin/salt-minion --version").startswith("salt-minion 3008.3 ")
    server.ssh("salt/bin/pip check")


def test_salt_runs_from_the_ready_archive(server, url):
    server.ssh("sudo mkdir -p /opt/managed-k8s")
    server.ssh(f"curl -sf {url}/salt/minion.tar.gz | sudo tar -xzf - -C /opt/managed-k8s")
    assert server.ssh("/opt/managed-k8s/salt/bin/salt-minion --version").startswith("salt-minion 3008.3 ")
    assert "True" in server.ssh("sudo /opt/managed-k8s/salt/bin/salt-call --local test.ping")


def test_sums_are_signed_by_the_key_of_the_package_sources(server, url):
    for name in ("SHA256SUMS", "SHA256SUMS.gpg", "debian/mirror.gpg"):
        server.ssh(f"curl -sfO {url}/{name}")
    server.ssh("gpgv --keyring ./mirror.gpg SHA256SUMS.gpg SHA256SUMS")
    assert "kubernetes/" in server.ssh("cat SHA256SUMS")
