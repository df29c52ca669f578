"""A healthy cluster of as many nodes as one likes, in a cloud that only answers what a look asks.

The code that asks is the reconciler's own, with its own clients; what answers is bench/stand_in_apis.py.
"""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import trustme
import yaml

from bench.planning import CLUSTER, nodes
from bench.stand_in_apis import HOST, served
from managed_k8s.config import settings
from managed_k8s.kube import access
from managed_k8s.kube.api import KubernetesApi
from managed_k8s.minions.jobs import Answer
from managed_k8s.names import Node
from managed_k8s.observe.gateway_disks import Disks
from managed_k8s.observe.observer import Observer
from managed_k8s.openstack.client import Cloud
from managed_k8s.state.store import Store

_ADDONS: list[dict[str, Any]] = [
    {"kind": kind, "metadata": {"name": name, "namespace": "kube-system"}, "spec": {"selector": {}, "template": {}}}
    for kind, name in (("Deployment", "coredns"), ("DaemonSet", "csi-cinder-nodeplugin"))
]


@contextlib.contextmanager
def observer(count: int) -> Iterator[tuple[Observer, dict[str, str]]]:
    """Give what looks at a healthy cluster of so many servers, and the name of the service at each host and port."""
    every, authority = nodes(count), trustme.CA()
    with tempfile.TemporaryDirectory() as name, served(every, _ADDONS, authority) as ports:
        folder = Path(name)
        authority.cert_pem.write_to_path(folder / "ca.pem")
        clouds = folder / "clouds.yaml"
        clouds.write_text(yaml.safe_dump({"clouds": {"stand-in": _account(ports["identity"], folder / "ca.pem")}}))
        found, store = settings.complete(_SETTINGS, "stand-in"), Store(folder, CLUSTER)
        _fill(store, found, authority, ports["kubernetes"])
        opts = {"managed_k8s": {"checkout": name, "state": name}}
        cloud = Cloud(opts, CLUSTER, found)
        kube = _Kube(CLUSTER, found, store, cloud.credential, cloud.kept_credential)
        # The environment's clouds.yaml comes first; the API's port is no setting.
        environment = mock.patch.dict(os.environ, OS_CLIENT_CONFIG_FILE=str(clouds))
        with environment, mock.patch.object(access, "PORT", ports["kubernetes"]):
            look = Observer(store, found, every, folder, cloud, _Jobs(every), kube, Disks(opts, store))
            yield look, {f"{HOST}:{port}": service for service, port in ports.items()}


_SETTINGS = {
    settings.KEY: {
        "openstack": {"cloud": "stand-in", "external_network": "external"},
        "artifacts": {"url": "http://mirror.invalid"},
    }
}


def _account(port: int, ca: Path) -> dict[str, Any]:
    auth = {
        "auth_url": f"https://{HOST}:{port}/v3",
        "username": "u",
        "password": "p",
        "project_name": "p",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    return {"auth": auth, "cacert": str(ca), "region_name": "stand-in"}


def _fill(store: Store, found: settings.Settings, authority: trustme.CA, port: int) -> None:
    """Write what a Salt master keeps about a cluster that is made."""
    access.keep(store, _kubeconfig(authority, port), authority.cert_pem.bytes().decode())
    store.write("infra.json", {"public_address": HOST})
    store.write("initialised.json", {"master": f"{CLUSTER}-master-1", "finished": True})
    store.write("application_credential.json", {"id": "i", "access_rules": [{}]})
    image = {"archive": "images/pause.tar", "name": "pause", "tag": "1", "digest": "sha256:1"}
    version = found.kubernetes.version
    base = f"{found.artifacts.url}/kubernetes/{version}"
    artifacts = {"base": base, "digest": "0", "sums": {"images/pause.tar": "0"}, "versions": {"images": [image]}}
    store.write(f"artifacts-{version}.json", artifacts)


def _kubeconfig(authority: trustme.CA, port: int) -> str:
    client = authority.issue_cert("administrator")
    certificate, key, ca = (
        base64.b64encode(blob.bytes()).decode()
        for blob in (client.cert_chain_pems[0], client.private_key_pem, authority.cert_pem)
    )
    cluster = {"server": f"https://{HOST}:{port}", "certificate-authority-data": ca}
    content = {
        "clusters": [{"name": CLUSTER, "cluster": cluster}],
        "users": [{"name": "u", "user": {"client-certificate-data": certificate, "client-key-data": key}}],
        "contexts": [{"name": "c", "context": {"cluster": CLUSTER, "user": "u"}}],
        "current-context": "c",
    }
    return yaml.safe_dump(content)


class _Kube(KubernetesApi):
    """The mirror is asked for the add-ons once a process, however many nodes there are; here it is not."""

    def _objects(self, credential: Mapping[str, Any]) -> Any:
        return _ADDONS


class _Jobs:
    """Minions that all answer."""

    def __init__(self, every: list[Node]) -> None:
        self.nodes = every

    def accepted(self, cluster: str) -> list[str]:
        return [node.id for node in self.nodes]

    def ask(
        self, minions: Collection[str], function: str, *args: Any, limit: float, expected: Collection[str] = ()
    ) -> dict[str, Answer]:
        facts = {"revision": "current", "kubeadm": "joined", "etcd_data": True}
        return {name: Answer(facts, ok=True) for name in minions}

    def run(self, minion: str, function: str, *args: Any, limit: float, **kwargs: Any) -> Any:
        raise NotImplementedError(function)

    def forget(self, minion: str) -> None:
        raise NotImplementedError(minion)
