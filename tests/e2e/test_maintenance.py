"""Servers are rebooted and certificates renewed, one after the other, while the cluster serves."""

from __future__ import annotations

import itertools
import shlex
import time

import pytest

from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.state.history import History
from tests.support.asking import GAP, Asking, is_ready
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(5400)

DAY = 86400
# The certificate of the scheduler made anew, for ten days only.
_SHORT = """
set -e
file=$(mktemp)
trap 'rm -f $file' EXIT
printf '%s\\n' 'apiVersion: kubeadm.k8s.io/v1beta4' 'kind: ClusterConfiguration' \\
  "kubernetesVersion: $(kubeadm version --output=short)" 'certificateValidityPeriod: 240h0m0s' > $file
kubeadm certs renew scheduler.conf --config $file
"""
# A package whose configuration was changed, and a repository that has a newer one with another configuration.
_AGED = """
set -e
rm -rf /var/lib/e2e-aged && mkdir -p /var/lib/e2e-aged && cd /var/lib/e2e-aged
for version in 1 2; do
  mkdir -p tree/DEBIAN tree/etc
  printf '%s\\n' 'Package: e2e-aged' "Version: $version" 'Architecture: all' 'Maintainer: nobody <nobody@localhost>' \\
    'Description: what a test makes older than it could be' > tree/DEBIAN/control
  echo /etc/e2e-aged > tree/DEBIAN/conffiles
  echo "as packaged in $version" > tree/etc/e2e-aged
  dpkg-deb --root-owner-group --build tree e2e-aged_$version.deb > /dev/null
done
{ cat tree/DEBIAN/control; echo 'Filename: ./e2e-aged_2.deb'; echo "Size: $(stat -c %s e2e-aged_2.deb)"
  echo "SHA256: $(sha256sum e2e-aged_2.deb | cut -d' ' -f1)"; } > Packages
dpkg --install e2e-aged_1.deb > /dev/null
echo 'as its administrator wants it' > /etc/e2e-aged
echo 'deb [trusted=yes] file:/var/lib/e2e-aged ./' > /etc/apt/sources.list.d/e2e-aged.list
"""
_AGED_NO_MORE = """
dpkg --purge e2e-aged
rm -rf /var/lib/e2e-aged /etc/apt/sources.list.d/e2e-aged.list /etc/e2e-aged*
"""


def settle(demo):
    """Wait until all is as it should be."""
    demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, "timeout=4500", timeout=4600)
    assert demo.verb("plan")["steps"] == []


def spans(demo, since, what):
    """Return server -> (begin, end) of the steps that ended so since; fail when one was tried more than once."""
    begun, found = {}, {}
    for entry in History(demo.store).last(100_000):
        if entry["time"] < since or "step" not in entry:
            continue
        if entry["what"] == "begun":
            begun[entry["step"]] = entry["time"]
        elif entry["what"] == what:
            assert entry["subject"] not in found, f"{entry['subject']} twice"
            found[entry["subject"]] = (begun[entry["step"]], entry["time"])
    return found


def one_by_one(times):
    """Tell whether each of some spans begins only when the one before has ended."""
    return all(one[1] <= other[0] for one, other in itertools.pairwise(sorted(times)))


def boots(demo):
    return demo.checkout.salt(f"{demo.name}-*", "managed_k8s_facts.boot")


def ends(demo):
    """Return master -> until when the first of kubeadm's certificates on it is good, and whether a renewal is open."""
    told = demo.checkout.salt(f"{demo.name}-master-*", "managed_k8s_pki.expiry")
    return {name: (certificates["control_plane"], certificates["renewing"]) for name, certificates in told.items()}


def test_who_cannot_be_rebooted_is_named(demo):
    answer = demo.checkout.data("reboot", "node=demo-worker-99")
    assert answer["retcode"] == 1
    assert "has no server" in answer["error"]


@pytest.fixture
def aged(demo):
    """A worker on which a package is older than it could be."""
    worker = demo.names("worker")[0]
    demo.ssh(worker, f"sudo bash -c {shlex.quote(_AGED)}")
    yield worker
    demo.ssh(worker, f"sudo bash -c {shlex.quote(_AGED_NO_MORE)}")


def test_a_worker_gets_its_packages_upgraded_and_is_rebooted(demo, aged):
    worker, since, before = aged, time.time(), boots(demo)
    assert demo.checkout.data("reboot", f"node={worker}", "packages=True")["servers"] == [worker]
    settle(demo)
    assert list(spans(demo, since, "maintained")) == [worker]
    after = boots(demo)
    assert {name for name in before if before[name] != after[name]} == {worker}
    assert demo.ssh(worker, "dpkg-query --show --showformat='${Version}' e2e-aged") == "2"
    assert demo.ssh(worker, "cat /etc/e2e-aged") == "as its administrator wants it"
    assert not kube_nodes.nodes(demo.api)[worker]["unschedulable"]


def test_all_servers_are_rebooted_one_after_the_other(demo, serving):
    serving.start()
    since, before = time.time(), boots(demo)
    with (
        Asking(is_ready(demo.public_address, str(demo.store.folder / "ca.crt"))) as api,
        Asking(serving.available, interval=2) as web,
    ):
        assert demo.verb("reboot")["retcode"] == 0
        settle(demo)
    print(f"rebooted after {time.time() - since:.0f} s, longest gap of the API {api.gap:.1f} s, pods {web.least}")
    after = boots(demo)
    assert {name for name in before if before[name] == after[name]} == set()
    found = spans(demo, since, "maintained")
    assert set(found) == set(demo.servers)
    assert one_by_one(found.values()), found
    assert not any(node["unschedulable"] for node in kube_nodes.nodes(demo.api).values())
    assert api.gap < GAP
    assert web.least >= 1
    assert demo.verb("smoke")["ok"]


def test_certificates_that_end_soon_are_renewed_one_master_after_the_other(demo):
    since = time.time()
    for name in demo.names("master"):
        demo.ssh(name, f"sudo bash -c {shlex.quote(_SHORT)}")
    assert all(end < since + 11 * DAY for end, _ in ends(demo).values())
    with Asking(is_ready(demo.public_address, str(demo.store.folder / "ca.crt"))) as api:
        # A reconciler that was at work has asked the minions already; the next look is five minutes away then.
        demo.verb("enqueue")
        eventually(lambda: sorted(spans(demo, since, "certificates_renewed")) == demo.names("master"), 1800, interval=5)
        settle(demo)
    print(f"renewed after {time.time() - since:.0f} s, longest gap of the API {api.gap:.1f} s")
    assert all(end > since + 300 * DAY and not renewing for end, renewing in ends(demo).values())
    found = spans(demo, since, "certificates_renewed")
    assert one_by_one(found.values()), found
    assert api.gap < GAP


def test_renewed_certificates_are_in_use(demo):
    """What a server shows is what its files say: kubeadm renews the files only."""
    ask = "openssl s_client -connect {} < /dev/null 2>/dev/null | openssl x509 -noout -serial"
    for name in demo.names("master"):
        address = demo.servers[name]["address"]
        for port, file in ((6443, "apiserver"), (2379, "etcd/server"), (2380, "etcd/peer")):
            said = demo.ssh(name, ask.format(f"{address}:{port}"))
            assert said.startswith("serial=")
            in_file = demo.ssh(name, f"sudo openssl x509 -noout -serial -in /etc/kubernetes/pki/{file}.crt")
            assert said == in_file, (name, file)


def test_gateways_and_the_salt_master_trust_the_clusters_authority(demo):
    authority = (demo.store.folder / "ca.crt").read_text().strip()
    for name in demo.names("gateway"):
        assert demo.ssh(name, "cat /etc/haproxy/kubernetes-ca.crt") == authority
    assert demo.ssh(demo.names("master")[0], "sudo cat /etc/kubernetes/pki/ca.crt") == authority


def test_certificates_are_renewed_by_hand_on_one_master(demo):
    master = demo.names("master")[0]
    assert demo.checkout.salt(master, "managed_k8s_pki.renew")[master] == {"not_well_yet": []}
    eventually(lambda: demo.answers("/readyz").status_code == 200, 120)
    assert demo.verb("plan")["steps"] == []
