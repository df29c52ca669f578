"""From cluster.map to a cluster, as its operator finds it."""

from __future__ import annotations

import base64
import itertools
import json
import stat

import keystoneauth1.identity.v3
import keystoneauth1.session
import pytest
import requests
import yaml
from kubernetes.client import CoreV1Api
from kubernetes.client.exceptions import ApiException

from managed_k8s import names
from managed_k8s.config import cluster_map
from tests.support.checkout import ETCDCTL
from tests.support.project import PREFIX, USER, eventually, gone

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def core(demo):
    return CoreV1Api(demo.api)


@pytest.fixture(scope="module")
def members(demo):
    """Masters and workers: what is a node of Kubernetes."""
    return {name: server for name, server in demo.servers.items() if server["role"] != names.GATEWAY}


# What is there


def test_every_server_of_the_map_runs_and_no_other(demo):
    content = cluster_map.read_yaml(demo.checkout.root / "cluster.map")
    wanted = cluster_map.servers(content, "cluster.map").of_cluster("demo")
    assert {name: server["status"] for name, server in demo.servers.items()} == dict.fromkeys(wanted, "ACTIVE")


def test_status_says_that_all_is_well(demo):
    said = demo.checkout.run("salt-run", "managed_k8s.status").stdout
    assert "demo is as it should be." in said
    assert f"answers at {demo.public_address}; inside {demo.virtual_ip}, demo-gateway-" in said
    assert "3 of 3 members healthy" in said
    found = demo.verb("status")
    assert {node["name"] for node in found["nodes"]} == set(demo.servers)
    assert all(node["minion"] == "connected" and node["converged"] for node in found["nodes"])
    assert (found["ready"], found["next"], found["waiting"], found["failed"]) == (True, [], [], {})
    assert found["unknown"] == {}
    assert {node["version"] for node in found["nodes"] if node["role"] != names.GATEWAY} == {found["version"]}
    assert {certificate["key"] for certificate in found["certificates"]} == {"api", "ca", "kubeconfig"}


def test_diagram_and_metrics_are_of_the_same_cluster(demo, tmp_path):
    demo.checkout.run("salt-run", "managed_k8s.diagram", f"out={tmp_path}/demo.svg")
    picture = (tmp_path / "demo.svg").read_text()
    assert all(f">{name}<" in picture for name in demo.servers)
    demo.checkout.run("salt-run", "managed_k8s.metrics", f"out={tmp_path}/demo.prom")
    said = (tmp_path / "demo.prom").read_text()
    assert 'managed_k8s_ready{cluster="demo"} 1.0' in said
    assert 'managed_k8s_address_holders{cluster="demo"} 1.0' in said


def test_what_was_done_is_said_with_how_long_it_took(demo):
    done = demo.verb("history", "last=1000")["done"]
    joined = {row["subject"] for row in done if row["what"] == "joined" and row["seconds"]}
    assert joined | {"demo-master-1"} == {name for name in demo.servers if "gateway" not in name}


def test_the_plan_is_empty(demo):
    found = demo.verb("plan")
    assert (found["steps"], found["waiting"]) == ([], [])


def test_history_says_ready_after_the_smoke_test(demo):
    seen = [entry["what"] for entry in demo.history() if entry["subject"] == "cluster"]
    assert "ready" in seen[seen.index("smoke_passed") :]


def test_nodes_are_ready_and_known_to_openstack(members, core):
    nodes = {node.metadata.name: node for node in core.list_node().items}
    assert set(nodes) == set(members)
    for name, node in nodes.items():
        assert node.spec.provider_id.startswith("openstack://")
        assert node.spec.provider_id.endswith(members[name]["id"])
        assert {c.type: c.status for c in node.status.conditions}["Ready"] == "True"
        assert {a.type: a.address for a in node.status.addresses}["InternalIP"] == members[name]["address"]


def test_the_smoke_test_passes(demo):
    found = demo.verb("smoke")
    assert {check["name"]: check["detail"] for check in found["checks"] if not check["ok"]} == {}
    assert found["ok"]
    assert len(found["checks"]) >= 10


def test_the_first_master_has_resources_and_a_smoke_test_that_runs_by_hand(demo):
    assert "smoke-test" in demo.ssh("demo-master-1", "cat ~/.managed_k8s/README")
    assert demo.ssh("demo-master-1", "ls ~/.managed_k8s/resources")
    said = demo.ssh("demo-master-1", "sudo ~/.managed_k8s/smoke-test", timeout=600)
    assert "PASSED" in said
    assert "FAIL" not in said


# The ways in


def test_the_kubeconfig_is_private_and_leads_through_the_floating_ip(demo, tmp_path):
    copy = tmp_path / "kubeconfig"
    demo.checkout.run("salt-run", "managed_k8s.kubeconfig", f"path={copy}")
    for file in (demo.kubeconfig, copy):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        (cluster,) = yaml.safe_load(file.read_text())["clusters"]
        assert cluster["cluster"]["server"] == f"https://{demo.public_address}:6443"


def test_only_gateways_and_the_api_have_floating_ips(demo, cloud):
    ports = {port.id: port for port in cloud.network.ports()}
    servers = {server["id"]: name for name, server in demo.servers.items()}
    attached = [ports[address.port_id] for address in cloud.network.ips() if address.port_id]
    public = sorted(servers.get(port.device_id, port.name) for port in attached if port.name.startswith("demo-"))
    assert public == ["demo-api", *demo.names(names.GATEWAY)]


def test_ssh_leads_through_the_gateways_everywhere(demo):
    for name in demo.servers:
        assert demo.ssh(name, "hostname; whoami").split() == [name, USER]


@pytest.fixture(scope="module")
def stranger(demo, project):
    """A server on the cluster's own network that is not the cluster's, and a floating IP to log in to it."""
    network = project.cloud.network
    group = project.security_group.id
    port = network.create_port(
        name=f"{PREFIX}stranger", network_id=network.find_network("demo").id, security_group_ids=[group]
    )
    address = project.make_floating_ip(port.id)
    made = project.start_server("stranger", port)

    def command(words):
        return project.account.ssh(address, words, known_as=made.id, timeout=60)

    project.cloud.compute.wait_for_server(made, wait=180)
    eventually(lambda: command("echo up") == "up", 120)
    yield command
    project.cloud.compute.delete_server(made)
    eventually(lambda: gone(project.cloud.compute.get_server, made), 120)
    network.delete_port(port.id, ignore_missing=True)


def reached(stranger, targets):
    """Return which of the (address, port) a server can open a connection to."""
    script = "try() { timeout 5 bash -c 'exec 3<>/dev/tcp/$0/$1' $1 $2 2>/dev/null && echo $1 $2; }; "
    said = stranger(script + "".join(f"try {address} {port} & " for address, port in targets) + "wait")
    return {(address, int(port)) for address, port in map(str.split, said.splitlines())}


def test_even_on_the_clusters_network_only_gateways_can_be_reached(demo, stranger):
    addresses = {server["address"]: server["role"] for server in demo.servers.values()} | {demo.virtual_ip: "gateway"}
    found = reached(stranger, itertools.product(addresses, (22, 2379, 2380, 6443, 10250)))
    gateways = [address for address, role in addresses.items() if role == names.GATEWAY]
    assert found == set(itertools.product(gateways, (22, 6443)))


# Hardening


def test_nobody_without_a_name_learns_more_than_health(demo):
    assert demo.answers("/livez").status_code == requests.codes.ok
    for path in ("/api", "/version", "/api/v1/namespaces", "/api/v1/namespaces/kube-public/configmaps/cluster-info"):
        assert demo.answers(path).status_code == requests.codes.unauthorized, path


@pytest.mark.parametrize("asking", ["demo-master-1", "demo-worker-1"])
def test_kubelets_show_a_certificate_of_the_clusters_ca_and_answer_nobody_without_a_name(demo, members, asking):
    ask = "curl --silent --max-time 10 --output /dev/null --write-out '%{http_code}'"
    for name, server in members.items():
        url = f"https://{server['address']}:10250/pods"
        said = demo.ssh(asking, f"sudo {ask} --cacert /etc/kubernetes/pki/ca.crt {url} || true")
        assert said == "401", f"{name}: {said}"


def test_privileged_pods_are_refused_where_nothing_else_is_said(core):
    pod = {
        "metadata": {"generateName": "e2e-"},
        "spec": {"containers": [{"name": "one", "image": "none", "securityContext": {"privileged": False}}]},
    }
    core.create_namespaced_pod("default", pod, dry_run="All")
    pod["spec"]["containers"][0]["securityContext"]["privileged"] = True
    with pytest.raises(ApiException, match="violates PodSecurity"):
        core.create_namespaced_pod("default", pod, dry_run="All")


@pytest.fixture
def written(core):
    """A Secret and a ConfigMap with the same text."""
    text = "e2e-plain-text"
    body = {"metadata": {"name": "e2e-at-rest"}}
    core.create_namespaced_secret("default", {**body, "stringData": {"key": text}})
    core.create_namespaced_config_map("default", {**body, "data": {"key": text}})
    yield text
    core.delete_namespaced_secret("e2e-at-rest", "default")
    core.delete_namespaced_config_map("e2e-at-rest", "default")


def test_secrets_are_encrypted_in_etcd(demo, written):
    def stored(kind):
        found = demo.ssh("demo-master-1", f"{ETCDCTL} get /registry/{kind}/default/e2e-at-rest | base64 --wrap=0")
        return base64.b64decode(found)

    assert written.encode() in stored("configmaps")
    assert b"k8s:enc:" in stored("secrets")
    assert written.encode() not in stored("secrets")


def test_every_master_is_an_etcd_member_that_votes(demo):
    listed = json.loads(demo.ssh("demo-master-1", f"{ETCDCTL} member list --write-out=json"))["members"]
    assert sorted(member["name"] for member in listed) == demo.names(names.MASTER)
    assert not any(member.get("isLearner") for member in listed)


def test_nothing_that_lets_a_server_join_is_left(demo, core):
    secrets = core.list_namespaced_secret("kube-system").items
    tokens = [secret.metadata.name for secret in secrets if secret.type == "bootstrap.kubernetes.io/token"]
    assert tokens == []
    assert [secret.metadata.name for secret in secrets if secret.metadata.name == "kubeadm-certs"] == []
    assert list((demo.store.folder / "joins").glob("*.json")) == []
    for name in demo.servers:
        assert demo.ssh(name, "sudo ls -A /run/managed-k8s 2>/dev/null || true") == ""


def test_what_the_salt_master_keeps_is_its_owners(demo):
    assert stat.S_IMODE(demo.store.folder.stat().st_mode) == 0o700
    for secret in ("ssh_key", "kubeconfig", "application_credential.json", "encryption.json"):
        assert stat.S_IMODE((demo.store.folder / secret).stat().st_mode) == 0o600, secret


def test_the_clouds_account_in_kubernetes_may_do_what_its_controllers_need_and_no_more(demo):
    kept = demo.store.read("application_credential.json")
    login = keystoneauth1.identity.v3.ApplicationCredential(
        kept["auth_url"], application_credential_id=kept["id"], application_credential_secret=kept["secret"]
    )
    session = keystoneauth1.session.Session(login, verify=demo.cloud.config.config["cacert"])

    def status(service, method, path):
        where = {"service_type": service, "interface": "public"}
        body = {"json": {}} if method == "POST" else {}
        return session.request(path, method, endpoint_filter=where, raise_exc=False, **body).status_code

    assert status("compute", "GET", "/servers/detail") == 200
    assert status("network", "GET", "/v2.0/ports") == 200
    assert status("block-storage", "GET", "/volumes/detail") == 200
    # What is allowed and makes no sense is told so; what is not allowed never gets so far.
    assert status("block-storage", "POST", "/volumes") == 400
    for service, method, path in (
        ("compute", "POST", "/servers"),
        ("compute", "GET", "/os-keypairs"),
        ("network", "POST", "/v2.0/ports"),
        ("network", "GET", "/v2.0/floatingips"),
        ("block-storage", "GET", "/types"),
    ):
        assert status(service, method, path) == 401, (service, method, path)
