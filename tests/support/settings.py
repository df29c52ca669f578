"""Settings as a cluster has them, and a server's profile."""

from typing import Any

from managed_k8s.config.sections import Healing
from managed_k8s.config.settings import Settings, complete


def settings(**changes: dict[str, Any]) -> Settings:
    """Return a cluster's settings, checked, with defaults. changes: section -> its settings that are not the usual."""
    content: dict[str, dict[str, Any]] = {
        "openstack": {"cloud": "lab", "external_network": "external"},
        "artifacts": {"url": "http://mirror.example"},
    }
    for section, values in changes.items():
        content[section] = content.get(section, {}) | values
    return complete({"managed_k8s": content}, "test.sls")


HEALING = Healing()
# What the infrastructure is made from.
INFRASTRUCTURE = settings(openstack={"dns_servers": ["10.77.0.10"], "access_rules": False})
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
