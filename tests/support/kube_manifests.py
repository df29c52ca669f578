"""What a mirror has, as small as the add-ons can be made from: the parts of upstream's manifests that they change."""

from __future__ import annotations

from typing import Any

import yaml

from tests.support.settings import settings

CCM = "openstack-cloud-controller-manager"
_IMAGES = {
    "ghcr.io/flannel-io/flannel": "v0.28.10",
    f"registry.k8s.io/provider-os/{CCM}": "v1.36.0",
    "registry.k8s.io/provider-os/cinder-csi-plugin": "v1.36.0",
    "registry.k8s.io/sig-storage/csi-attacher": "v4.12.0",
    "registry.k8s.io/sig-storage/snapshot-controller": "v8.6.0",
    "localhost/csi-node-driver-registrar": "v0.1.0",
}
VERSIONS: dict[str, Any] = {"images": [{"name": name, "tag": tag} for name, tag in _IMAGES.items()]}
SETTINGS = settings()


def item(kind: str, name: str, **more: Any) -> dict[str, Any]:
    """Return an object; `namespace` goes into its metadata."""
    metadata = {"name": name, **({"namespace": more.pop("namespace")} if "namespace" in more else {})}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **more}


def container(name: str, image: str, **more: Any) -> dict[str, Any]:
    """Return a container of an image at some other version than the mirror's."""
    return {"name": name, "image": f"{image}:v0.0.1", **more}


def workload(kind: str, name: str, namespace: str, containers: list[Any], **pod: Any) -> dict[str, Any]:
    """Return a Deployment or DaemonSet."""
    specification = {"containers": containers, **pod}
    labels = {"matchLabels": {"app": name}}
    return item(kind, name, namespace=namespace, spec={"selector": labels, "template": {"spec": specification}})


def mounted(*names: str) -> list[dict[str, str]]:
    """Return mounts of volumes."""
    return [{"name": name, "mountPath": f"/{name}"} for name in names]


def volumes(*names: str) -> list[dict[str, Any]]:
    """Return volumes that come from Secrets."""
    return [{"name": name, "secret": {"secretName": "cloud-config"}} for name in names]


_FLANNEL = [
    item("Namespace", "kube-flannel"),
    item(
        "ConfigMap",
        "kube-flannel-cfg",
        namespace="kube-flannel",
        data={"net-conf.json": '{"Network": "10.244.0.0/16"}'},
    ),
    workload(
        "DaemonSet",
        "kube-flannel-ds",
        "kube-flannel",
        [container("kube-flannel", "ghcr.io/flannel-io/flannel", env=[{"name": "POD_NAME", "value": "x"}])],
        initContainers=[
            container(
                "install-cni-plugin", "ghcr.io/flannel-io/flannel-cni-plugin", volumeMounts=mounted("cni-plugin")
            ),
            container("install-cni", "ghcr.io/flannel-io/flannel"),
        ],
        volumes=[{"name": name, "hostPath": {"path": f"/{name}"}} for name in ("cni-plugin", "run")],
    ),
]
_CCM = [
    workload(
        "DaemonSet",
        CCM,
        "kube-system",
        [
            container(
                CCM,
                f"registry.k8s.io/provider-os/{CCM}",
                args=[f"/bin/{CCM}", "--v=1"],
                volumeMounts=mounted("k8s-certs", "ca-certs", "cloud-config-volume"),
            )
        ],
        hostNetwork=True,
        volumes=volumes("k8s-certs", "ca-certs", "cloud-config-volume"),
    )
]
_PLUGIN = container(
    "cinder-csi-plugin",
    "registry.k8s.io/provider-os/cinder-csi-plugin",
    env=[{"name": "CLUSTER_NAME", "value": "kubernetes"}],
    livenessProbe={"httpGet": {"port": "healthz"}},
    ports=[{"name": "healthz", "containerPort": 9808}],
)
_PROBE = container("liveness-probe", "registry.k8s.io/sig-storage/livenessprobe")
_CONTROLLER = [
    workload(
        "Deployment",
        "csi-cinder-controllerplugin",
        "kube-system",
        [container("csi-attacher", "registry.k8s.io/sig-storage/csi-attacher"), _PROBE, _PLUGIN],
        volumes=[{"name": "socket-dir", "emptyDir": None}, *volumes("secret-cinderplugin")],
    )
]
_NODE = [
    workload(
        "DaemonSet",
        "csi-cinder-nodeplugin",
        "kube-system",
        [container("node-driver-registrar", "registry.k8s.io/sig-storage/csi-node-driver-registrar"), _PROBE, _PLUGIN],
        volumes=volumes("secret-cinderplugin"),
    )
]
_SNAPSHOT_CONTROLLER = [
    workload(
        "Deployment",
        "snapshot-controller",
        "kube-system",
        [container("snapshot-controller", "registry.k8s.io/sig-storage/snapshot-controller")],
    )
]
_SNAPSHOT_CONTROLLER[0]["spec"]["minReadySeconds"] = 35


def manifests() -> dict[str, str]:
    """Return path -> text."""
    roles = [
        item("ClusterRole", "system:cloud-controller-manager"),
        item("ClusterRole", "system:cloud-node-controller"),
    ]
    files: dict[str, list[Any]] = {
        "flannel/kube-flannel.yml": _FLANNEL,
        f"{CCM}/cloud-controller-manager-roles.yaml": [{"apiVersion": "v1", "kind": "List", "items": roles}],
        f"{CCM}/cloud-controller-manager-role-bindings.yaml": [item("ClusterRoleBinding", "ccm")],
        f"{CCM}/openstack-cloud-controller-manager-ds.yaml": _CCM,
        "cinder-csi-plugin/csi-cinder-driver.yaml": [item("CSIDriver", "cinder.csi.openstack.org")],
        "cinder-csi-plugin/cinder-csi-controllerplugin-rbac.yaml": [item("ServiceAccount", "csi-cinder-controller-sa")],
        "cinder-csi-plugin/cinder-csi-controllerplugin.yaml": _CONTROLLER,
        "cinder-csi-plugin/cinder-csi-nodeplugin-rbac.yaml": [item("ServiceAccount", "csi-cinder-node-sa")],
        "cinder-csi-plugin/cinder-csi-nodeplugin.yaml": _NODE,
        "snapshot-controller/rbac-snapshot-controller.yaml": [item("ServiceAccount", "snapshot-controller")],
        "snapshot-controller/setup-snapshot-controller.yaml": _SNAPSHOT_CONTROLLER,
    }
    for kind in ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots"):
        name = f"{kind}.snapshot.storage.k8s.io"
        files[f"snapshot-crds/snapshot.storage.k8s.io_{kind}.yaml"] = [item("CustomResourceDefinition", name)]
    return {path: yaml.safe_dump_all(documents) for path, documents in files.items()}
