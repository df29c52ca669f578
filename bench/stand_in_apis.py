"""HTTPS servers that answer as Keystone, Nova, Neutron and a Kubernetes API do about a healthy cluster."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import trustme

from managed_k8s import names
from managed_k8s.kube import addons
from managed_k8s.names import Node
from managed_k8s.openstack import init_marker

HOST = "127.0.0.1"
SERVICES = ("identity", "compute", "network", "kubernetes")

# Path -> what is answered.
Answers = Mapping[str, Any]


@contextlib.contextmanager
def served(nodes: list[Node], objects: list[dict[str, Any]], authority: trustme.CA) -> Iterator[dict[str, int]]:
    """Serve a cluster of these nodes; give service -> port.

    objects: the add-ons that were applied. authority: that signs the servers' certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST).configure_cert(context)
    with contextlib.ExitStack() as stack:
        servers = {service: stack.enter_context(ThreadingHTTPServer((HOST, 0), _Handler)) for service in SERVICES}
        ports = {service: int(server.server_address[1]) for service, server in servers.items()}
        cluster = nodes[0].cluster
        answers: dict[str, Answers] = {
            "identity": _identity(ports),
            "compute": _compute(_url(ports, "compute"), nodes),
            "network": _network(_url(ports, "network"), cluster),
            "kubernetes": _kubernetes(nodes, objects),
        }
        for service, server in servers.items():
            server.answers = {path: json.dumps(answer).encode() for path, answer in answers[service].items()}  # type: ignore[attr-defined]
            server.socket = context.wrap_socket(server.socket, server_side=True)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            stack.callback(server.shutdown)
        yield ports


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes: the second does not wait for the first's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer from the table; what is not in it is a request that nobody thought of."""
        path = urlsplit(self.path).path.rstrip("/") or "/"
        body = self.server.answers.get(path)  # type: ignore[attr-defined]
        self._send(404 if body is None else 200, body or b"{}")

    def do_POST(self) -> None:
        """Give out a token."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(201, self.server.answers["/v3/auth/tokens"])  # type: ignore[attr-defined]

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Subject-Token", "token")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def _url(ports: Mapping[str, int], service: str) -> str:
    return f"https://{HOST}:{ports[service]}"


def _self(url: str) -> list[dict[str, str]]:
    return [{"rel": "self", "href": f"{url}/"}]


def _identity(ports: Mapping[str, int]) -> Answers:
    paths = {"identity": "/v3", "compute": "/v2.1", "network": ""}
    catalog = [
        {
            "type": service,
            "name": service,
            "endpoints": [
                {
                    "interface": "public",
                    "region": "stand-in",
                    "region_id": "stand-in",
                    "url": _url(ports, service) + path,
                }
            ],
        }
        for service, path in paths.items()
    ]
    domain = {"id": "default", "name": "Default"}
    token = {
        "methods": ["password"],
        "user": {"id": "user", "name": "user", "domain": domain},
        "project": {"id": "project", "name": "project", "domain": domain},
        "roles": [{"id": "member", "name": "member"}],
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2099-01-01T00:00:00.000000Z",
        "catalog": catalog,
    }
    version = {"id": "v3.14", "status": "stable", "links": _self(_url(ports, "identity") + "/v3")}
    return {"/v3": {"version": version}, "/v3/auth/tokens": {"token": token}}


def _compute(url: str, nodes: list[Node]) -> Answers:
    version = {
        "id": "v2.1",
        "status": "CURRENT",
        "version": "2.93",
        "min_version": "2.1",
        "links": _self(f"{url}/v2.1"),
    }
    servers = [
        {
            "id": f"id-of-{node.id}",
            "name": node.id,
            "status": "ACTIVE",
            "metadata": {names.CLUSTER: node.cluster, names.ROLE: node.role},
            "addresses": {node.cluster: [{"addr": address, "version": 4, "OS-EXT-IPS:type": "fixed"}]},
        }
        for node, address in zip(nodes, map(_address, range(len(nodes))), strict=True)
    ]
    return {"/v2.1": {"version": version}, "/v2.1/servers/detail": {"servers": servers}}


def _address(number: int) -> str:
    return f"10.30.{number // 200}.{number % 200 + 10}"


def _network(url: str, cluster: str) -> Answers:
    version = {"id": "v2.0", "status": "CURRENT", "links": _self(f"{url}/v2.0")}
    port = {
        "id": "port",
        "name": names.api_port(cluster),
        "description": names.tag(cluster),
        "tags": [init_marker.TAG],
    }
    return {"/": {"versions": [version]}, "/v2.0/ports": {"ports": [port]}}


def _kubernetes(nodes: list[Node], objects: list[dict[str, Any]]) -> Answers:
    members = [node for node in nodes if node.role != names.GATEWAY]
    etcds = [_pod(node) for node in members if node.role == names.MASTER]
    mark = {"metadata": {"annotations": {"managed-k8s/digest": addons.digest(objects)}}}

    def listed(kind: str) -> dict[str, Any]:
        return {"items": [item for item in objects if item["kind"] == kind]}

    return {
        "/livez": {"kind": "Status"},
        "/readyz/etcd": "ok",
        "/api/v1/nodes": {"items": list(map(_node, members))},
        "/api/v1/namespaces/kube-system/pods": {"items": etcds},
        "/api/v1/namespaces/kube-system/configmaps/managed-k8s-addons": mark,
        "/apis/apps/v1/deployments": listed("Deployment"),
        "/apis/apps/v1/daemonsets": listed("DaemonSet"),
        "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases": {"items": []},
        "/apis/certificates.k8s.io/v1/certificatesigningrequests": {"items": []},
    }


_INFO = dict.fromkeys(
    ("architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion", "machineID"), ""
) | {"kubeletVersion": "v1.36.3", "operatingSystem": "linux", "osImage": "", "systemUUID": ""}


def _node(node: Node) -> dict[str, Any]:
    return {
        "metadata": {"name": node.id},
        "spec": {"providerID": f"openstack:///id-of-{node.id}"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": _INFO},
    }


def _pod(node: Node) -> dict[str, Any]:
    return {
        "metadata": {"name": f"etcd-{node.id}", "labels": {"component": "etcd", "tier": "control-plane"}},
        "spec": {"nodeName": node.id, "containers": []},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
