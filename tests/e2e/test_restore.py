"""Disasters, one page of docs/recovery.md each: everything that was in the cluster is there afterwards."""

from __future__ import annotations

import time

import pytest

from managed_k8s.kube import access
from tests.e2e import secrecy
from tests.e2e.records import Records, image
from tests.support.command_line import lab
from tests.support.project import eventually

pytestmark = pytest.mark.timeout(3600)
MASTERS = ["demo-master-1", "demo-master-2", "demo-master-3"]


@pytest.fixture(autouse=True)
def no_faults_left():
    yield
    lab("fault", "clear")


@pytest.fixture(scope="module")
def records(demo):
    made = Records(demo.api)
    made.start(image(demo.api))
    made.make(max(made.numbers(), default=0) + 1, 100)
    eventually(lambda: made.grows(10), 300)
    yield made
    made.core.delete_namespace("records")


def restore(demo, *words):
    done = demo.verb("restore", "yes=True", *words, timeout=3000)
    assert done["retcode"] == 0, done
    print(done)
    return done


def delete(demo, names):
    ids = {server["id"] for name, server in demo.servers.items() if name in names}
    for identity in ids:
        demo.cloud.compute.delete_server(identity)
    # By id: the reconciler may make new ones of the same names meanwhile.
    eventually(lambda: not ids & {server["id"] for server in demo.servers.values()}, 300)


def is_whole(demo, records, numbers, written):
    assert records.numbers() == numbers
    eventually(lambda: records.grows(written), 600)
    assert {n.metadata.name for n in records.core.list_node().items} == set(demo.servers) - set(demo.names("gateway"))
    nodes = {n.metadata.name: n.spec.provider_id.rpartition("/")[2] for n in records.core.list_node().items}
    assert nodes == {name: s["id"] for name, s in demo.servers.items() if s["role"] != "gateway"}
    left = demo.checkout.salt("demo-master-*", "file.directory_exists", "/var/lib/managed-k8s/restore")
    assert set(left.values()) == {False}


def test_a_well_cluster_is_left_alone(demo, records):
    refused = demo.verb("restore", "yes=True")
    assert refused["retcode"] == 1
    assert "nothing is lost" in refused["error"]


def test_two_of_three_masters_are_gone_for_good(demo, records):
    numbers, written = records.numbers(), records.written()
    workers = records.restarts(demo.names("worker"))
    demo.checkout.run("salt-run", "managed_k8s.pause")
    delete(demo, MASTERS[1:])
    eventually(lambda: not access.answers(demo.public_address), 120)
    demo.checkout.run("salt-run", "managed_k8s.resume")
    done = restore(demo)
    print("until the API answered", sum(seconds for kind, seconds in done["steps"].items() if kind != "join"))
    is_whole(demo, records, numbers, written)
    assert {name: workers[name] for name in workers} == {
        name: found for name, found in records.restarts(demo.names("worker")).items() if name in workers
    }


def test_masters_without_power_do_not_come_back_as_a_second_cluster(demo, records):
    numbers, written = records.numbers(), records.written()
    for name in MASTERS[:2]:
        lab("fault", "power-loss", name)
    eventually(lambda: not access.answers(demo.public_address), 120)
    before = {name: demo.servers[name]["id"] for name in MASTERS}
    restore(demo)
    is_whole(demo, records, numbers, written)
    assert [name for name in MASTERS if demo.servers[name]["id"] == before[name]] == MASTERS[2:]


def test_what_was_deleted_by_mistake_comes_back(demo, records):
    numbers, written = records.numbers(), records.written()
    made = demo.verb("backup")
    assert made["retcode"] == 0, made
    records.delete()
    records.make(90001, 5)
    with secrecy.Watch(demo, secrecy.secrets(demo)) as watch:
        restore(demo, f"backup={made['name']}")
    is_whole(demo, records, numbers, written)
    assert watch.found == []


def test_all_masters_are_gone(demo, records):
    numbers, written = records.numbers(), records.written()
    identities = {name: demo.servers[name]["id"] for name in demo.names("worker")}
    assert demo.verb("backup")["retcode"] == 0
    delete(demo, MASTERS)
    restore(demo)
    is_whole(demo, records, numbers, written)
    assert identities == {name: demo.servers[name]["id"] for name in demo.names("worker")}


def test_certificates_of_a_master_are_damaged(demo, records):
    numbers, written, known = records.numbers(), records.written(), secrecy.secrets(demo)
    demo.ssh(
        "demo-master-2", "sudo sh -c 'cd /etc/kubernetes/pki && rm apiserver.key ca.key && echo x > etcd/peer.crt'"
    )
    with secrecy.Watch(demo, known) as watch:
        restore(demo)
    is_whole(demo, records, numbers, written)
    inspected = demo.checkout.salt("demo-master-2", "managed_k8s_restore.inspect")
    assert inspected["demo-master-2"]["certificates"] == []
    assert watch.found == []


def test_everything_is_gone(demo, records):
    numbers, written = records.numbers(), records.written()
    assert demo.verb("backup")["retcode"] == 0
    delete(demo, list(demo.servers))
    begun = time.monotonic()
    restore(demo)
    print(f"everything gone to smoke-tested: {time.monotonic() - begun:.0f} s")
    is_whole(demo, records, numbers, written)
