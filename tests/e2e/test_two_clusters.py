"""Two clusters under one Salt master do not see each other."""

from __future__ import annotations

import json

import pytest
import requests

from managed_k8s.salt_master import cli
from tests.e2e.second import server_names

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture
def denied_keys():
    """The Salt master's record of strangers, without what the test leaves in it."""
    folder = cli.state_folder() / "etc" / "salt" / "pki" / "master" / "minions_denied"
    before = set(folder.glob("*"))
    yield
    for file in set(folder.glob("*")) - before:
        file.unlink()


def test_both_are_as_they_should_be(demo, small):
    for cluster in (demo, small):
        found = small.checkout.data("status", cluster.name)
        assert found["ready"], found
        assert {node["name"] for node in found["nodes"]} == set(cluster.servers)
    assert {node["name"] for node in small.verb("status")["nodes"]} == set(server_names())


def test_minions_are_told_nothing_of_the_other_cluster(demo, small):
    answers = small.checkout.salt("small-*", "pillar.items")
    assert set(answers) == set(server_names())
    told = json.dumps(answers)
    assert "small-master-1" in told
    for word in ("demo", demo.public_address, *(server["id"] for server in demo.servers.values())):
        assert word not in told


def test_a_minion_cannot_take_anothers_name(small, denied_keys):
    def pillar(options):
        # Names alone: salt-call hides values.
        command = f"sudo timeout 60 salt-call --out=json {options} pillar.keys managed_k8s 2>&1; true"
        return small.ssh("small-worker-1", command)

    assert '"secrets"' in pillar("")
    # Its own key, another's name.
    assert '"secrets"' not in pillar("--id=demo-master-1")


def test_the_file_server_shows_states_alone(small):
    listed = small.checkout.salt("small-worker-1", "cp.list_master")["small-worker-1"]
    assert "top.sls" in listed
    kinds = {path.partition(".")[2].partition(".")[0] for path in listed}
    assert not kinds & {"json", "map", "key", "pem"}
    assert [path for path in listed if "clusters" in path or "kubeconfig" in path] == []


def test_administrators_of_one_are_nobody_to_the_other(demo, small):
    url = f"https://{demo.public_address}:6443/version"
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(url, verify=str(small.store.folder / "ca.crt"), timeout=10)
    certificate = (small.api.configuration.cert_file, small.api.configuration.key_file)
    answer = requests.get(url, verify=str(demo.store.folder / "ca.crt"), cert=certificate, timeout=10)
    assert answer.status_code == requests.codes.unauthorized
    own = url.replace(demo.public_address, small.public_address)
    assert requests.get(own, verify=str(small.store.folder / "ca.crt"), cert=certificate, timeout=10).ok
