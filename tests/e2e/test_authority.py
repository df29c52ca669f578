"""The cluster's authority is exchanged by the commands of docs/certificates.md, one after the other, as they stand."""

from __future__ import annotations

import base64
import re
import time

import pytest
import yaml
from kubernetes.client import CoreV1Api

from managed_k8s.kube import access
from managed_k8s.kube import nodes as kube_nodes
from tests.support.asking import Asking, is_ready
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(7200)

# Seconds for which the API may be away while its servers restart one after the other, on a busy machine.
GAP = 20


def commands(root) -> str:
    """Return the commands of the page."""
    page = (root / "docs/certificates.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```$", page.partition("## Exchanging the authorities")[2], re.S | re.M)
    assert len(blocks) > 5
    return "\n".join(blocks)


def certificates(text):
    return text.count("BEGIN CERTIFICATE")


def test_the_authority_is_exchanged_while_the_cluster_serves(demo, tmp_path):
    before = demo.store.read_text(access.CA)
    both = tmp_path / "trusted.pem"
    # Whoever watches trusts what is written into the store.
    both.write_text(before)

    def ready():
        both.write_text(before + demo.store.read_text(access.CA))
        return is_ready(demo.public_address, str(both))()

    since = time.monotonic()
    with Asking(ready) as asking:
        demo.checkout.run("bash", "-c", commands(demo.checkout.root), timeout=5400)
    print(f"exchanged after {time.monotonic() - since:.0f} s, longest gap of the API {asking.gap:.1f} s")
    # The client of before knows the old one.
    vars(demo).pop("api", None)
    after = demo.store.read_text(access.CA)
    assert certificates(after) == 1
    assert after.strip() != before.strip()
    assert asking.gap < GAP


def test_the_old_authority_is_nowhere_any_more(demo):
    authority = demo.store.read_text(access.CA).strip()
    for name in [*demo.names("master"), *demo.names("worker")]:
        assert demo.ssh(name, "sudo cat /etc/kubernetes/pki/ca.crt") == authority
        lines = demo.ssh(name, "sudo sh -c 'grep -h certificate-authority-data: /etc/kubernetes/*.conf'").splitlines()
        assert {base64.b64decode(line.split()[1]).decode().strip() for line in lines} == {authority}
    for name in demo.names("gateway"):
        assert demo.ssh(name, "cat /etc/haproxy/kubernetes-ca.crt") == authority
    information = CoreV1Api(demo.api).read_namespaced_config_map("cluster-info", "kube-public").data["kubeconfig"]
    (cluster,) = yaml.safe_load(information)["clusters"]
    assert base64.b64decode(cluster["cluster"]["certificate-authority-data"]).decode().strip() == authority


def test_what_servers_show_is_of_the_new_one(demo):
    for name, server in demo.servers.items():
        if server["role"] == "gateway":
            continue
        ports = (6443, 10250) if server["role"] == "master" else (10250,)
        for port in ports:
            ask = f"sudo openssl s_client -connect {server['address']}:{port} -CAfile /etc/kubernetes/pki/ca.crt"
            script = f"{ask} < /dev/null 2>/dev/null | grep 'Verify return code:'"
            eventually(lambda name=name, script=script: "0 (ok)" in demo.ssh(name, script), 180, interval=5)


def test_a_worker_joins_with_the_new_one(demo):
    name = demo.names("worker")[-1]
    before = demo.servers[name]["id"]
    demo.checkout.run("salt-run", "managed_k8s.replace", name)
    demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, timeout=1200)
    assert demo.servers[name]["id"] != before


def test_the_cluster_is_as_it_should_be(demo):
    assert all(node["ready"] for node in kube_nodes.nodes(demo.api).values())
    assert demo.verb("plan")["steps"] == []
    assert demo.verb("smoke")["ok"]
