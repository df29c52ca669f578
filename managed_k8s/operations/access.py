"""How an operator reaches a cluster: its API, and its servers by ssh."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from managed_k8s.config import load
from managed_k8s.errors import RequestError
from managed_k8s.kube import access
from managed_k8s.openstack import ssh_config
from managed_k8s.openstack.ssh import SSH_KEY
from managed_k8s.operations.clusters import choose
from managed_k8s.state.store import Store


def reach(opts: Mapping[str, Any], cluster: str | None) -> dict[str, Any]:
    """Return how to reach a cluster's API and servers; writes a configuration for ssh. Raises RequestError."""
    name = choose(opts, cluster)
    store = Store.of(opts, name)
    path = kubeconfig(opts, name, None)["path"]
    config = ssh_configuration(opts, name)
    return {"cluster": name, **ssh_config.commands(Path(path), config, store.read("inventory.json") or {})}


def ssh_configuration(opts: Mapping[str, Any], name: str) -> Path:
    """Write a configuration for ssh, in which every server of a cluster has its name; return its path."""
    store = Store.of(opts, name)
    servers = store.read("inventory.json") or {}
    text = ssh_config.ssh_config(
        servers, load.keys(opts, name), store.path(SSH_KEY), store.path("known_hosts/x").parent
    )
    store.write_text("ssh_config", text)
    return store.path("ssh_config")


def kubeconfig(opts: Mapping[str, Any], cluster: str | None, path: str | None) -> dict[str, Any]:
    """Write the cluster's kubeconfig to a file that only its owner can read; return where it is."""
    name = choose(opts, cluster)
    store = Store.of(opts, name)
    text = store.read_text(access.KUBECONFIG)
    if text is None:
        raise RequestError(
            f"{name} has no kubeconfig yet: its control plane is not up; see salt-run managed_k8s.status"
        )
    if path is None:
        return {"path": str(access.kubeconfig(store))}
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise RequestError(f"path: folder {target.parent} does not exist; make it, or choose another")
    part = target.with_name(f".{target.name}.{os.getpid()}")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    part.rename(target)
    return {"path": str(target)}
