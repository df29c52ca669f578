"""The connection to a cluster's API."""

import socket

import pytest
import urllib3.exceptions
import yaml
from kubernetes.client import CoreV1Api

from managed_k8s.kube import client

pytestmark = pytest.mark.timeout(30)


def kubeconfig(path, url):
    """Write a kubeconfig whose server is at a URL."""
    context = {"name": "x", "context": {"cluster": "x", "user": "x"}}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "x", "cluster": {"server": url}}],
        "users": [{"name": "x", "user": {"token": "none"}}],
        "contexts": [context],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_takes_the_connection_and_says_nothing_is_not_waited_for_without_end(
    tmp_path, monkeypatch, scheme
):
    monkeypatch.setattr(client, "_CONNECT", 0.2)
    monkeypatch.setattr(client, "_READ", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=16) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        api = client.connect(kubeconfig(tmp_path / "kubeconfig", url))
        with pytest.raises(urllib3.exceptions.HTTPError):
            CoreV1Api(api).list_node()
