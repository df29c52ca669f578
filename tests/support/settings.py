"""Settings as a cluster has them, and a server's profile."""

from typing import Any

from managed_k8s.config.sections import Healing

HEALING: dict[str, Any] = Healing().model_dump()
# What the infrastructure is made from.
INFRASTRUCTURE = {
    "openstack": {
        "external_network": "external",
        "network_cidr": "10.30.0.0/24",
        "virtual_ip": "10.30.0.5",
        "dns_servers": ["10.77.0.10"],
        "anti_affinity": "soft",
        "api_allowed_cidrs": ["0.0.0.0/0"],
        "ssh_allowed_cidrs": ["0.0.0.0/0"],
        "access_rules": False,
    },
    "kubernetes": {"cni": "flannel"},
}
# A gateway's profile, and its name.
GATEWAY = {
    "cluster": "demo",
    "image": "debian-12",
    "flavor": "small",
    "networks": [
        {"network": "demo", "security_groups": ["demo-gateway"], "allowed_address_pairs": [{"port": "demo-api"}]}
    ],
    "floating_ip": "external",
    "server_group": "demo-gateway",
}
NAME = "demo-gateway-1"
# A profile with most of its keys.
PROFILE = {
    "provider": "openstack:openstack",
    "cluster": "demo",
    "image": "debian-12",
    "flavor": "small",
    "networks": [
        {
            "network": "demo",
            "fixed_ip": "10.30.0.11",
            "security_groups": ["demo-gateway"],
            "allowed_address_pairs": [{"port": "demo-api"}, "10.30.0.5", "10.99.0.0/24"],
        }
    ],
    "floating_ip": "external",
    "server_group": "demo-gateway",
    "boot_volume": {"size": 10},
    "minion": {"master": "192.0.2.1"},
}
