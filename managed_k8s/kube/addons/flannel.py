"""The pod network: flannel, VXLAN between the nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from managed_k8s.kube.addons import placement
from managed_k8s.kube.addons.manifests import Images, Object, drop_volumes, load, only, pod

_MANIFEST = "flannel/kube-flannel.yml"
_NETWORK = "net-conf.json"


def objects(pod_cidr: str, virtual_ip: str, manifests: Mapping[str, str], images: Images) -> list[Object]:
    """Return flannel's objects for a network of pods.

    pod_cidr: the whole cluster's; each node's /24 of it is allotted by the controller manager.
    virtual_ip: of the API.
    """
    found = load(manifests, _MANIFEST)
    configuration = only(found, "ConfigMap")["data"]
    network = json.loads(configuration[_NETWORK])
    configuration[_NETWORK] = json.dumps({**network, "Network": pod_cidr}, indent=2)
    daemons = only(found, "DaemonSet")
    specification = pod(daemons)
    # The CNI plugin is installed with the others, from the mirror and checked: no pod writes programs on the host.
    specification["initContainers"] = [c for c in specification["initContainers"] if c["name"] != "install-cni-plugin"]
    drop_volumes(specification, "cni-plugin")
    images.fit(daemons)
    placement.through(daemons, virtual_ip)
    return found
