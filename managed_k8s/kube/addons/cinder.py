"""Persistent volumes: the Cinder CSI driver, snapshots, and the classes that users name."""

from __future__ import annotations

from collections.abc import Mapping

from managed_k8s.config.sections import Storage
from managed_k8s.kube.addons import cloud_config, placement
from managed_k8s.kube.addons.manifests import Images, Object, container, load, only, pod
from managed_k8s.kube.csi import BACKUP_CLASS, DRIVER

_CONTROLLER = (
    "cinder-csi-plugin/csi-cinder-driver.yaml",
    "cinder-csi-plugin/cinder-csi-controllerplugin-rbac.yaml",
    "cinder-csi-plugin/cinder-csi-controllerplugin.yaml",
)
_SNAPSHOT_KINDS = ("volumesnapshotclasses", "volumesnapshotcontents", "volumesnapshots")
_NODE = ("cinder-csi-plugin/cinder-csi-nodeplugin-rbac.yaml", "cinder-csi-plugin/cinder-csi-nodeplugin.yaml")
# Snapshots of groups of volumes are none of Cinder CSI's.
_SNAPSHOTS = (
    *(f"snapshot-crds/snapshot.storage.k8s.io_{kind}.yaml" for kind in _SNAPSHOT_KINDS),
    "snapshot-controller/rbac-snapshot-controller.yaml",
    "snapshot-controller/setup-snapshot-controller.yaml",
)
_SECRET_VOLUME = "secret-cinderplugin"  # noqa: S105  its name upstream


def objects(cluster: str, storage: Storage, manifests: Mapping[str, str], images: Images) -> list[Object]:
    """Return the driver's objects, the snapshot controller's and the classes.

    storage: the settings' `storage`.
    """
    return [
        *_controller(cluster, manifests, images),
        *_node(manifests, images),
        *_snapshots(manifests, images),
        _storage_class(storage),
        _snapshot_class("cinder", {}, default=True),
        # A backup is a copy in the backup service, which outlives the volume and its storage.
        _snapshot_class("cinder-backup", {"type": "backup"}, default=False),
        # What is made on schedule outlives its VolumeSnapshot too, and with that its namespace.
        _snapshot_class(BACKUP_CLASS, {"type": "backup"}, default=False, deletion="Retain"),
    ]


def _controller(cluster: str, manifests: Mapping[str, str], images: Images) -> list[Object]:
    found = load(manifests, *_CONTROLLER)
    deployment = only(found, "Deployment")
    _replicate(deployment, images)
    for variable in container(deployment, "cinder-csi-plugin")["env"]:
        if variable["name"] == "CLUSTER_NAME":
            variable["value"] = cluster
    return found


def _node(manifests: Mapping[str, str], images: Images) -> list[Object]:
    found = load(manifests, *_NODE)
    daemons = only(found, "DaemonSet")
    images.fit(daemons)
    specification = pod(daemons)
    specification["priorityClassName"] = "system-node-critical"
    # It asks the config drive or metadata service who it is, and no API: workers need no credential.
    for volume in specification["volumes"]:
        if volume["name"] == _SECRET_VOLUME:
            del volume["secret"]
            volume["configMap"] = {"name": cloud_config.NODE_CONFIG}
    return found


def _snapshots(manifests: Mapping[str, str], images: Images) -> list[Object]:
    found = load(manifests, *_SNAPSHOTS)
    deployment = only(found, "Deployment")
    _replicate(deployment, images)
    # Upstream waits for custom resource definitions that may come later; here they are there before.
    deployment["spec"].pop("minReadySeconds", None)
    return found


def _replicate(deployment: Object, images: Images) -> None:
    """Run two of a controller that elects a leader, on control plane nodes."""
    images.fit(deployment)
    deployment["spec"]["replicas"] = 2
    placement.on_control_plane(deployment)
    placement.spread(deployment)
    placement.unprivileged(deployment)
    for volume in pod(deployment).get("volumes", []):
        if "emptyDir" in volume:
            volume["emptyDir"] = {}  # upstream leaves it null, which is no value to apply


def _storage_class(storage: Storage) -> Object:
    parameters = {"type": storage.volume_type, "availability": storage.availability_zone}
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "cinder", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": DRIVER,
        "parameters": {name: value for name, value in parameters.items() if value is not None},
        # A volume is made where its first pod runs.
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        "reclaimPolicy": "Delete",
    }


def _snapshot_class(name: str, parameters: dict[str, str], *, default: bool, deletion: str = "Delete") -> Object:
    annotations = {"snapshot.storage.kubernetes.io/is-default-class": str(default).lower()}
    return {
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshotClass",
        "metadata": {"name": name, "annotations": annotations},
        "driver": DRIVER,
        "deletionPolicy": deletion,
        # Volumes in use can be snapshotted: a database does not stop for its backup.
        "parameters": {"force-create": "true", **parameters},
    }
