"""All add-ons of a cluster, as Kubernetes objects in the order in which they are applied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from managed_k8s.config.settings import Settings
from managed_k8s.kube.addons import cinder, cloud_config, cloud_controller, coredns, flannel
from managed_k8s.kube.addons.manifests import Images, Object

LABEL = {"app.kubernetes.io/managed-by": "managed-k8s"}
# What others need comes first; kinds that are not named come last.
_ORDER = (
    "Namespace",
    "CustomResourceDefinition",
    "ServiceAccount",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ConfigMap",
    "Secret",
    "DaemonSet",
    "Deployment",
)


def objects(
    settings: Settings,
    versions: Mapping[str, Any],
    manifests: Mapping[str, str],
    cloud: cloud_config.CloudAccess,
) -> list[Object]:
    """Return the objects of all add-ons; nothing is read or asked, the same input gives the same output.

    settings: of the cluster, complete.
    versions: versions.json of the mirror.
    manifests: path -> text, from `fetch` or `read`.
    Raises ManifestError when the mirror lacks something.
    """
    images, kubernetes, storage = Images(versions), settings.kubernetes, settings.storage
    virtual_ip = settings.openstack.virtual_ip
    network = kubernetes.cni == "flannel"
    found = [
        *(flannel.objects(kubernetes.pod_cidr, virtual_ip, manifests, images) if network else []),
        *cloud_config.objects(cloud, storage),
        *cloud_controller.objects(cloud.cluster, virtual_ip, manifests, images),
        *coredns.objects(),
        *cinder.objects(cloud.cluster, storage, manifests, images),
    ]
    cloud_config.renew(found)
    for item in found:
        item["metadata"].setdefault("labels", {}).update(LABEL)
    return sorted(found, key=_place)


def _place(item: Object) -> int:
    kind = item["kind"]
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER)
