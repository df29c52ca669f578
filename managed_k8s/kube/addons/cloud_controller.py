"""The OpenStack cloud controller manager: addresses, zones and provider ids of nodes, removal of deleted ones."""

from __future__ import annotations

from collections.abc import Mapping

from managed_k8s.kube.addons import placement
from managed_k8s.kube.addons.manifests import Images, Object, container, drop_volumes, load, only, pod

NAME = "openstack-cloud-controller-manager"
_MANIFESTS = (
    f"{NAME}/cloud-controller-manager-roles.yaml",
    f"{NAME}/cloud-controller-manager-role-bindings.yaml",
    f"{NAME}/openstack-cloud-controller-manager-ds.yaml",
)
# Of no use to a controller that only runs with its own service account and without in-tree volumes.
_UNUSED = ("system:cloud-node-controller",)
_FLAGS = {
    "--v": "1",
    "--cluster-name": "$(CLUSTER_NAME)",
    "--cloud-config": "$(CLOUD_CONFIG)",
    "--cloud-provider": "openstack",
    "--use-service-account-credentials": "false",
    "--bind-address": "127.0.0.1",
    "--leader-elect": "true",
    "--configure-cloud-routes": "false",
    "--concurrent-node-syncs": "5",
}


def objects(cluster: str, virtual_ip: str, manifests: Mapping[str, str], images: Images) -> list[Object]:
    """Return its objects: one pod on every control plane node, the elected one works.

    virtual_ip: of the API.
    """
    found = [item for item in load(manifests, *_MANIFESTS) if item["metadata"]["name"] not in _UNUSED]
    daemons = only(found, "DaemonSet")
    images.fit(daemons)
    # It makes nodes usable, so it starts on nodes that are not, and resolves names as its host does.
    placement.on_control_plane(
        daemons, placement.UNINITIALIZED, {"key": "node.kubernetes.io/not-ready", "operator": "Exists"}
    )
    placement.unprivileged(daemons)
    specification = pod(daemons)
    specification["dnsPolicy"] = "Default"
    drop_volumes(specification, "k8s-certs", "ca-certs")
    program = container(daemons, NAME)
    program["args"] = [program["args"][0], *(f"{flag}={value}" for flag, value in _FLAGS.items())]
    program["env"] = [
        {"name": "CLOUD_CONFIG", "value": "/etc/config/cloud.conf"},
        {"name": "CLUSTER_NAME", "value": cluster},
    ]
    placement.through(daemons, virtual_ip)
    return found
