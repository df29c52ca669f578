"""How to reach a cluster: its API with the kubeconfig, its servers by SSH through a gateway."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from managed_k8s.names import GATEWAY

Servers = Mapping[str, Mapping[str, Any]]

_HEAD = """# ssh -F THIS-FILE SERVER; written by salt-run managed_k8s.access.
Host *
  IdentitiesOnly yes
  StrictHostKeyChecking accept-new
  ServerAliveInterval 15
  LogLevel ERROR
"""


def ssh_config(servers: Servers, keys: Servers, key: Path, known_hosts: Path) -> str:
    """Return a configuration for ssh in which every server that has an address has its name.

    servers: name -> id, role, status, address, floating_ip. keys: server -> what it is made from.
    key: the private key, where the profile names none. known_hosts: folder of a file a server, by its id.
    """
    hosts = [
        _host(name, server, keys.get(name, {}), servers, key, known_hosts)
        for name, server in sorted(servers.items())
        if server["address"]
    ]
    return "\n".join([_HEAD, *hosts])


def _host(
    name: str, server: Mapping[str, Any], profile: Mapping[str, Any], servers: Servers, key: Path, known_hosts: Path
) -> str:
    gateway = profile.get("ssh_gateway")
    lines = [
        f"Host {name}",
        f"HostName {server['address'] if gateway else server['floating_ip'] or server['address']}",
        f"User {profile.get('ssh_username', 'debian')}",
        f'IdentityFile "{profile.get("ssh_key_file", key)}"',
        # As when it was made: another server at the same address has another host key.
        f'UserKnownHostsFile "{known_hosts / server["id"]}"',
        *(f"ProxyJump {jump}" for jump in _jumps(gateway, servers)),
    ]
    return "\n  ".join(lines) + "\n"


def _jumps(prefix: str | None, servers: Servers) -> list[str]:
    """Return the first running server that ssh can go through, if there is one."""
    return [
        name
        for name, server in sorted(servers.items())
        if prefix and name.startswith(f"{prefix}-") and server["status"] == "ACTIVE" and server["floating_ip"]
    ][:1]


def commands(kubeconfig: Path, config: Path, servers: Servers) -> dict[str, str]:
    """Return how to reach it: kubeconfig (path), api (URL), ssh (a command).

    kubeconfig: the file. config: ssh's. servers: as above.
    """
    api = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    # The first one that is behind the gateways says most.
    name = min(servers, key=lambda name: (servers[name]["role"] == GATEWAY, name), default="SERVER")
    return {"kubeconfig": str(kubeconfig), "api": api, "ssh": f"ssh -F {config} {name}"}


def sentences(found: Mapping[str, str]) -> Iterator[str]:
    """Yield lines that tell people how.

    found: what commands() returns, and the cluster's name.
    """
    yield f"How to reach {found['cluster']}, at {found['api']}:"
    yield f"  export KUBECONFIG={found['kubeconfig']}"
    yield "  kubectl get nodes"
    yield f"  {found['ssh']}   (any server, by its name)"
