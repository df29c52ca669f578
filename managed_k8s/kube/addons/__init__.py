"""What every cluster gets beside kubeadm's own: pod network, cloud integration, storage, spread DNS."""

from managed_k8s.kube.addons.apply import ApplyError, apply, digest, missing
from managed_k8s.kube.addons.cloud_config import CloudAccess
from managed_k8s.kube.addons.collect import objects
from managed_k8s.kube.addons.manifests import ManifestError, fetch, read

__all__ = [
    "ApplyError",
    "CloudAccess",
    "ManifestError",
    "apply",
    "digest",
    "fetch",
    "missing",
    "objects",
    "read",
]
