"""kubeadm's configuration of a node, made from the cluster's settings; there is nothing secret in it.

What only one join may know, and for a while, is put in by the minion: _modules/managed_k8s_kubeadm.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from managed_k8s.config.settings import Settings
from managed_k8s.names import MASTER, Node

_API = "kubeadm.k8s.io/v1beta4"
_CRI_SOCKET = "unix:///run/containerd/containerd.sock"
_FOLDER = "/etc/kubernetes/managed-k8s"
_APISERVER = {
    "admission-control-config-file": f"{_FOLDER}/admission.yaml",
    "audit-log-maxage": "30",
    "audit-log-maxbackup": "5",
    "audit-log-maxsize": "100",
    "audit-log-path": "/var/log/kubernetes/audit.log",
    "audit-policy-file": f"{_FOLDER}/audit.yaml",
    "authentication-config": f"{_FOLDER}/authentication.yaml",
    "encryption-provider-config": f"{_FOLDER}/encryption.yaml",
    # What a kubelet shows of itself is signed by the cluster, not by itself.
    "kubelet-certificate-authority": "/etc/kubernetes/pki/ca.crt",
    "profiling": "false",
    "tls-min-version": "VersionTLS12",
}


def of(node: Node, settings: Settings, public_address: str | None) -> dict[str, Any]:
    """Return a node's part of the pillar.

    join: kubeadm's JoinConfiguration without discovery and certificate key. init: on masters what `kubeadm init` reads,
    as YAML.
    """
    registration = _registration(node, settings)
    join = {"apiVersion": _API, "kind": "JoinConfiguration", "nodeRegistration": registration}
    if node.role != MASTER:
        return {"join": join}
    init = {
        "apiVersion": _API,
        "kind": "InitConfiguration",
        "nodeRegistration": registration,
        # kubeadm always makes one, by default good for any join within a day; here each join gets one of its own.
        "bootstrapTokens": [{"ttl": "1m0s"}],
    }
    cluster = _cluster(node, settings, public_address)
    return {"join": join, "init": _documents(init, cluster, _kubelet(settings), _kube_proxy(settings))}


def _registration(node: Node, settings: Settings) -> dict[str, Any]:
    return {
        "name": node.id,
        "criSocket": _CRI_SOCKET,
        "imagePullPolicy": "IfNotPresent",
        "kubeletExtraArgs": [{"name": "cloud-provider", "value": "external"}],
        "ignorePreflightErrors": settings.kubernetes.ignore_preflight_errors,
    }


def _cluster(node: Node, settings: Settings, public_address: str | None) -> dict[str, Any]:
    kubernetes, virtual_ip = settings.kubernetes, settings.openstack.virtual_ip
    return {
        "apiVersion": _API,
        "kind": "ClusterConfiguration",
        "clusterName": node.cluster,
        "kubernetesVersion": f"v{kubernetes.version}",
        "controlPlaneEndpoint": f"{virtual_ip}:6443",
        "networking": {"podSubnet": kubernetes.pod_cidr, "serviceSubnet": kubernetes.service_cidr},
        "apiServer": {
            "certSANs": [virtual_ip, *([public_address] if public_address else [])],
            "extraArgs": _arguments(_APISERVER),
            "extraVolumes": [
                _volume("managed-k8s", _FOLDER, read_only=True),
                _volume("audit-logs", "/var/log/kubernetes", read_only=False),
            ],
        },
        "controllerManager": {"extraArgs": _arguments({"profiling": "false"})},
        "scheduler": {"extraArgs": _arguments({"profiling": "false"})},
    }


def _arguments(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(values.items())]


def _volume(name: str, path: str, *, read_only: bool) -> dict[str, Any]:
    return {"name": name, "hostPath": path, "mountPath": path, "readOnly": read_only, "pathType": "Directory"}


def _kubelet(settings: Settings) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "cgroupDriver": settings.container_runtime.cgroup_driver,
        "rotateCertificates": True,
        "serverTLSBootstrap": True,
        "tlsMinVersion": "VersionTLS12",
        **settings.kubernetes.kubelet,
    }


def _kube_proxy(settings: Settings) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        **settings.kubernetes.kube_proxy,
    }


def _documents(*documents: dict[str, Any]) -> str:
    return yaml.safe_dump_all(documents, sort_keys=True)
