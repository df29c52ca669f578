"""Where add-ons run and what they may do there."""

from __future__ import annotations

import copy

from managed_k8s.kube.addons.manifests import Object, containers, pod

CONTROL_PLANE = "node-role.kubernetes.io/control-plane"
# The image's ordinary user; upstream's distroless images have it too.
_USER = 65532

# A node is tainted so until the cloud controller manager has looked at it: what that needs must start before.
UNINITIALIZED: Object = {"key": "node.cloudprovider.kubernetes.io/uninitialized", "operator": "Exists"}
_ON_CONTROL_PLANE: list[Object] = [
    {"key": CONTROL_PLANE, "operator": "Exists"},
    {"key": "CriticalAddonsOnly", "operator": "Exists"},
]


def on_control_plane(workload: Object, *more: Object) -> None:
    """Let a workload run on control plane nodes only: what holds the cloud's credential stays where nobody else runs.

    more: further tolerations.
    """
    specification = pod(workload)
    specification.pop("affinity", None)
    specification["nodeSelector"] = {CONTROL_PLANE: ""}
    specification["tolerations"] = [*_ON_CONTROL_PLANE, *more]
    specification["priorityClassName"] = "system-cluster-critical"


def spread(workload: Object) -> None:
    """Keep the pods of a Deployment on different nodes where there are enough."""
    pod(workload)["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": copy.deepcopy(workload["spec"]["selector"]),
        }
    ]


def unprivileged(workload: Object) -> None:
    """Take every right from the pods of a workload that an ordinary program does not need."""
    specification = pod(workload)
    specification["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": _USER,
        "runAsGroup": _USER,
        "fsGroup": _USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    for each in containers(specification):
        each["securityContext"] = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def through(workload: Object, virtual_ip: str) -> None:
    """Let a workload of the host's network reach the API at its virtual address, as the kubelet does.

    The service's address works only once kube-proxy runs on the node: pods that start with it would fail and be held
    back for ever longer.
    """
    for each in containers(pod(workload)):
        each["env"] = [
            *each.get("env", []),
            {"name": "KUBERNETES_SERVICE_HOST", "value": virtual_ip},
            {"name": "KUBERNETES_SERVICE_PORT", "value": "6443"},
        ]
