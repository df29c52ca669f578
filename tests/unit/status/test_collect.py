"""Looking: who is asked, how often, and what is known when some do not answer."""

import base64
import contextlib
import dataclasses
import socket
import ssl
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
import yaml

from managed_k8s import names, paths
from managed_k8s.backup.service import Backups
from managed_k8s.kube import access
from managed_k8s.minions.jobs import Answer, JobError
from managed_k8s.model import kubernetes
from managed_k8s.observe import observer
from managed_k8s.openstack.connection import CloudError
from managed_k8s.state.store import Store
from managed_k8s.status import certificates, collect, status, volumes
from managed_k8s.status.facts import CLOUD, ETCD, KUBERNETES, MINIONS, PLAN, VOLUMES, Volume
from tests.support import worlds as worlds
from tests.support.backups import record
from tests.support.clusters import DEMO, desired
from tests.support.settings import settings


class Parts:
    """Cloud, minions and API in one; each can be made to fail."""

    def __init__(self, want):
        self.listed = worlds.listed(want)
        self.nodes: dict[str, Any] = {
            name: {**node, "provider_id": None, "taints": [], "address": None}
            for name, node in worlds.kubernetes_nodes(want).items()
        }
        self.names = [node.id for node in want.nodes]
        self.calls: list[Any] = []
        self.up = True
        self.broken: dict[str, Exception] = {}
        self.slow = 0.0
        self.etcdctl: dict[str, Answer] = {}

    def _call(self, what):
        self.calls.append(what)
        if what in self.broken:
            raise self.broken[what]

    def servers(self):
        self._call("servers")
        time.sleep(self.slow)
        return self.listed

    def is_begun(self):
        self._call("is_begun")
        return True

    def public_address(self):
        return None

    def is_busy(self, name):
        return False

    def accepted(self, cluster):
        return self.names

    def ask(self, minions, function, *args, limit, expected=()):
        self._call(function)
        if function == observer.MEMBERS:
            (name,) = minions
            found: Any = [
                {"id": f"{n}", "name": master, "addresses": [self.listed[master]["address"]], "healthy": True,
                 "voter": True}
                for n, master in enumerate(self.names) if "-master-" in master
            ]  # fmt: skip
            return {name: self.etcdctl.get(name, Answer(found, ok=True))}
        facts = {
            name: {"revision": "r", "kubeadm": "none" if "gateway" in name else "joined", "etcd_data": True,
                   "virtual_ip": name.endswith("gateway-1") if "gateway" in name else None}
            for name in minions
        }  # fmt: skip
        return {name: Answer(each, ok=True) for name, each in facts.items()}

    def answers(self):
        self._call("answers")
        return self.up

    def look(self):
        self._call("look")
        ready = {name: node["ready"] for name, node in self.nodes.items()}
        return kubernetes.KubernetesState(ready, etcd=True, addons=True, nodes=self.nodes)


@pytest.fixture
def authority():
    return trustme.CA()


def cluster(tmp_path, monkeypatch, authority, want=DEMO):
    """Return a cluster of doubles, all of it well."""
    store = Store(tmp_path, "demo")
    store.write_text(access.CA, authority.cert_pem.bytes().decode())
    store.write("initialised.json", {"master": "demo-master-1", "finished": True})
    store.write("infra.json", {"public_address": "192.0.2.9"})
    store.write("state.json", {"time": time.time(), "ready": True, "servers": [], "running": []})
    parts = Parts(want)
    found = settings(artifacts={"url": "http://mirror.invalid"})
    monkeypatch.setattr(access, "is_good", lambda store: True)
    monkeypatch.setattr(volumes, "listing", lambda api: parts._call("volumes") or (Volume("v", "a/b", "1Gi"),))
    api = certificates.Certificate("api", "an API server", time.time() + 9e6)
    monkeypatch.setattr(certificates, "of_api", lambda addresses: api)
    monkeypatch.setattr(observer.Observer, "_desired", lambda self, servers: want_of(want))
    nobody: Any = None
    backups = Backups({}, store, Store(tmp_path, "demo", "vault"), found, nobody, nobody, nobody)
    made: Any = SimpleNamespace(
        name="demo", store=store, settings=found, nodes=list(want.nodes), backups=backups, parts=parts,
        kube=SimpleNamespace(connect=lambda: None), volumes=SimpleNamespace(state=lambda: {"problems": []}),
        observer=lambda: observer.Observer(store, found, want.nodes, paths.root(), parts, parts, parts, parts),
    )  # fmt: skip
    return made


def want_of(want):
    return dataclasses.replace(want, revisions={node.id: "r" for node in want.nodes})


@pytest.fixture
def found(tmp_path, monkeypatch, authority):
    return cluster(tmp_path, monkeypatch, authority)


def test_everything_is_known_of_a_cluster_that_is_well(found):
    world = collect.look(found)
    assert world.unknown == {}
    assert world.servers.keys() == world.minions.keys() == {node.id for node in DEMO.nodes}
    assert {member.node for member in world.members} == {"demo-master-1", "demo-master-2", "demo-master-3"}
    assert world.volumes == (Volume("v", "a/b", "1Gi"),)
    assert [each.key for each in world.certificates] == ["api", "ca"]
    data = status.status(world)
    assert data["address"]["holders"] == ["demo-gateway-1"]
    assert {each["version"] for each in data["nodes"] if each["role"] != names.GATEWAY} == {"1.36.3"}


@pytest.mark.parametrize("workers", [2, 300])
def test_it_is_one_look_whatever_the_number_of_servers(tmp_path, monkeypatch, authority, workers):
    found = cluster(tmp_path, monkeypatch, authority, desired(workers=workers))
    collect.look(found)
    assert sorted(found.parts.calls) == sorted(
        ["servers", "is_begun", observer.FACTS, "answers", "look", observer.MEMBERS, "volumes"]
    )


def test_a_cloud_that_is_away_hides_nothing_else(found):
    found.parts.broken = {"servers": CloudError("the cloud's API keeps on failing\nmore")}
    world = collect.look(found)
    assert world.unknown == {
        CLOUD: "the cloud's API keeps on failing",
        PLAN: "the reconciler does nothing until it can ask the cloud",
    }
    assert (world.servers, world.look) == (None, None)
    assert len(world.minions) == 7
    assert len(world.nodes) == 5
    assert len(world.members) == 3


def test_nobody_waits_for_long_for_a_cloud_that_hangs(found, monkeypatch):
    monkeypatch.setattr(collect, "PATIENCE", 0.2)
    found.parts.slow = 300
    begun = time.monotonic()
    assert "no answer within" in collect.look(found).unknown[CLOUD]
    assert time.monotonic() - begun < 150


def test_without_a_salt_master_cloud_and_kubernetes_are_shown(found):
    found.parts.broken = {observer.FACTS: JobError("the Salt master does not run")}
    world = collect.look(found)
    assert world.minions is None
    assert world.unknown[MINIONS] == "the Salt master does not run"
    assert world.unknown[ETCD] == "no master that is one of its members is connected"
    assert (len(world.servers), len(world.nodes)) == (7, 5)


def test_while_nothing_answers_nobody_waits_for_kubernetes(found):
    found.parts.up = False
    world = collect.look(found)
    assert world.unknown == {KUBERNETES: "its API does not answer"}
    assert (world.api, world.nodes, world.volumes) == (False, None, None)
    assert len(world.members) == 3, "a master says it without the API"
    assert not {"look", "volumes"} & set(found.parts.calls)


def test_an_api_that_answers_with_errors_is_unknown(found, monkeypatch):
    monkeypatch.setattr(found.parts, "look", lambda: None)
    assert collect.look(found).unknown[KUBERNETES] == "its API answers, but not what it is asked"
    monkeypatch.setattr(access, "is_good", lambda store: False)
    assert collect.look(found).unknown[KUBERNETES] == "there is no kubeconfig to ask it with yet"


def test_volumes_that_cannot_be_listed_are_unknown(found):
    found.parts.broken = {"volumes": RuntimeError("forbidden")}
    world = collect.look(found)
    assert (world.volumes, world.unknown) == (None, {VOLUMES: "forbidden"})


def test_another_master_is_asked_for_members_when_one_cannot_say(found):
    found.parts.etcdctl = {"demo-master-1": Answer("etcdctl member list: deadline exceeded", ok=False)}
    assert len(collect.look(found).members) == 3
    for number in (2, 3):
        found.parts.etcdctl[f"demo-master-{number}"] = Answer("etcdctl member list: no leader\n...", ok=False)
    world = collect.look(found)
    assert (world.members, world.unknown[ETCD]) == (None, "demo-master-3: etcdctl member list: no leader")


def test_a_defect_within_the_look_is_said_and_nothing_breaks(found, monkeypatch):
    def broken(self, servers):
        raise RuntimeError("the mirror has no SHA256SUMS")

    monkeypatch.setattr(observer.Observer, "_desired", broken)
    assert collect.look(found).unknown == {PLAN: "the mirror has no SHA256SUMS"}


def test_before_there_is_anything_nothing_is_wrong(tmp_path, monkeypatch, authority):
    found = cluster(tmp_path, monkeypatch, authority)
    for name in ("initialised.json", "state.json", access.CA):
        found.store.remove(name)
    found.parts.listed, found.parts.names, found.parts.up = {}, [], False
    world = collect.look(found)
    assert (world.unknown, world.certificates, world.backup) == ({}, (), collect.Backup())
    assert status.status(world)["wrong"] == []


def test_on_record_asks_nobody(found):
    world = collect.on_record(found)
    assert found.parts.calls == []
    assert world.state["ready"]
    assert [each.key for each in world.certificates] == ["ca"]


def test_backups_say_what_is_due(found):
    now = time.time()
    found.store.write("backups.json", [vars(record(now - 300))])
    found.store.write("backup.json", {"begun": now - 300, "done": now - 300})
    made = collect.on_record(found).backup
    assert made.newest == record(now - 300).name
    assert 0 < made.following - now <= 900
    assert 0 < made.drill - now <= 86400
    found.settings = settings(backup={"enabled": False})
    assert collect.on_record(found).backup.following is None


# Certificates


def test_certificates_in_the_store(tmp_path, authority):
    store = Store(tmp_path, "demo")
    assert list(certificates.of_store(store)) == []
    pem = authority.issue_cert("admin").cert_chain_pems[0].bytes()
    user = {"user": {"client-certificate-data": base64.b64encode(pem).decode()}}
    access.keep(store, yaml.safe_dump({"users": [user]}), authority.cert_pem.bytes().decode())
    ca, kubeconfig = certificates.of_store(store)
    assert ca.ends > time.time()
    assert kubeconfig.ends - kubeconfig.renewed == access.MARGIN.total_seconds()
    access.keep(store, "no kubeconfig", "no certificate")
    assert all(each.ends is None and "cannot be read" in each.problem for each in certificates.of_store(store))


def test_the_certificate_of_whoever_answers(monkeypatch, authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(access, "PORT", server.getsockname()[1])

        def serve():
            connection, _ = server.accept()
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        found = certificates.of_api(["127.0.0.1"])
        thread.join()
    assert found.ends
    assert found.ends > time.time()


def test_an_api_that_nobody_finds_has_no_certificate(monkeypatch):
    monkeypatch.setattr(access, "PORT", 1)
    found = certificates.of_api(["127.0.0.1"])
    assert found.ends is None
    assert "127.0.0.1:1" in found.problem
    assert certificates.of_api([]).problem == "it has no address"


# Volumes


def test_volumes_know_their_nodes(monkeypatch):
    def volume(name, claim=None):
        reference = claim and SimpleNamespace(namespace=claim[0], name=claim[1])
        spec = SimpleNamespace(claim_ref=reference, capacity={"storage": "1Gi"})
        return SimpleNamespace(metadata=SimpleNamespace(name=name), spec=spec)

    def attachment(name, node, attached=True):
        source = SimpleNamespace(persistent_volume_name=name)
        return SimpleNamespace(
            spec=SimpleNamespace(source=source, node_name=node), status=SimpleNamespace(attached=attached)
        )

    attachments = [attachment("pv-1", "demo-worker-1"), attachment("pv-2", "demo-worker-2", attached=False)]
    listed = [volume("pv-2", ("shop", "old")), volume("pv-1", ("shop", "data")), volume("pv-3")]
    core = SimpleNamespace(list_persistent_volume=lambda **limits: SimpleNamespace(items=listed))
    storage = SimpleNamespace(list_volume_attachment=lambda **limits: SimpleNamespace(items=attachments))
    monkeypatch.setattr(volumes, "CoreV1Api", lambda api: core)
    monkeypatch.setattr(volumes, "StorageV1Api", lambda api: storage)
    api: Any = None
    assert volumes.listing(api) == (
        Volume("pv-3", "", "1Gi"),
        Volume("pv-1", "shop/data", "1Gi", "demo-worker-1"),
        Volume("pv-2", "shop/old", "1Gi"),
    )
