"""Cluster DNS: kubeadm's CoreDNS, its two pods never on one node."""

from __future__ import annotations

from managed_k8s.kube.addons.manifests import Object

_LABELS = {"k8s-app": "kube-dns"}


def objects() -> list[Object]:
    """Return the fields that are ours in kubeadm's Deployment, and a limit to how many pods a drain may take at once.

    kubeadm only prefers different nodes, and starts both pods when there is one: they would stay together, and names
    would not resolve while that node is down.
    """
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "coredns", "namespace": "kube-system"},
            "spec": {"template": {"spec": {"topologySpreadConstraints": [_apart()]}}},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "coredns", "namespace": "kube-system"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": _LABELS}},
        },
    ]


def _apart() -> Object:
    return {
        "maxSkew": 1,
        "minDomains": 2,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "nodeTaintsPolicy": "Honor",
        "labelSelector": {"matchLabels": _LABELS},
        # Pods of an older template do not count, or an update could not place its first pod.
        "matchLabelKeys": ["pod-template-hash"],
    }
