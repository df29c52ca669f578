"""What the templates write is what HAProxy, keepalived, nftables, containerd and the API server shall read."""

import re
import tomllib

import yaml


def test_haproxy_serves_all_masters(of):
    text = of("gateway", masters=3).render("gateway/haproxy.cfg.jinja")
    assert re.findall(r"^  server (\S+) (\S+)$", text, re.MULTILINE) == [
        (f"demo-master-{n}", f"10.30.0.{20 + n}:6443") for n in (1, 2, 3)
    ]
    assert "default_backend masters" in text
    assert "verify none" in text


def test_haproxy_has_no_backend_without_servers(of):
    text = of("gateway", masters=0).render("gateway/haproxy.cfg.jinja")
    assert "backend" not in text
    assert "bind *:6443" in text


def test_haproxy_verifies_masters_once_their_authority_is_known(of):
    text = of("gateway", ca="x").render("gateway/haproxy.cfg.jinja")
    assert "verify required ca-file /etc/haproxy/kubernetes-ca.crt" in text
    assert "verify none" not in text


def test_keepalived_speaks_to_the_other_gateways_only(of):
    text = of("gateway", gateways=3).render("gateway/keepalived.conf.jinja", interface="ens3")
    peers = re.search(r"unicast_peer \{\n(.*?)\n  \}", text, re.DOTALL)
    assert peers
    assert peers[1].split() == ["10.30.0.12", "10.30.0.13"]
    assert "unicast_src_ip 10.30.0.11" in text
    assert "10.30.0.5/32 dev ens3" in text
    assert "nopreempt" in text


def test_gateways_let_in_ssh_the_api_and_each_other(of):
    text = of("gateway").render("gateway/firewall.nft.jinja")
    assert "policy drop" in text
    assert re.findall(r"tcp dport (\d+) accept", text) == ["22", "6443"]
    assert re.findall(r"ip saddr (\S+) meta l4proto 112 accept", text) == ["10.30.0.12"]


def test_pods_do_not_reach_the_metadata_service(of):
    assert "ip daddr 169.254.169.254 counter drop" in of("worker").render("kubernetes/firewall.nft.jinja")


def test_containerd_knows_the_sandbox_and_the_cgroup_driver(of):
    for driver, expected in (("systemd", True), ("cgroupfs", False)):
        changes = (("container_runtime", "cgroup_driver", driver),)
        config = tomllib.loads(of("worker", changes=changes).render("container_runtime/config.toml.jinja"))
        plugins = config["plugins"]
        runtime = plugins["io.containerd.cri.v1.runtime"]["containerd"]["runtimes"]["runc"]
        assert runtime["options"]["SystemdCgroup"] is expected
        assert plugins["io.containerd.cri.v1.images"]["pinned_images"]["sandbox"] == "registry.k8s.io/pause:3.10.2"


def test_pod_security_is_enforced_but_for_the_clusters_own(of):
    changes = (("kubernetes", "pod_security", "restricted"),)
    document = yaml.safe_load(of("master", changes=changes).render("master/admission.yaml.jinja"))
    configuration = document["plugins"][0]["configuration"]
    assert configuration["defaults"]["enforce"] == "restricted"
    assert "kube-system" in configuration["exemptions"]["namespaces"]


def test_nobody_without_a_name_gets_past_health(of):
    document = yaml.safe_load(of("master").render("master/authentication.yaml.jinja"))
    assert [condition["path"] for condition in document["anonymous"]["conditions"]] == ["/livez", "/readyz", "/healthz"]


def test_secrets_are_encrypted_before_anything_else_is_tried(of):
    document = yaml.safe_load(of("master").render("master/encryption.yaml.jinja"))
    (resource,) = document["resources"]
    assert [next(iter(provider)) for provider in resource["providers"]] == ["secretbox", "identity"]
