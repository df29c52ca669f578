"""
What a server of a cluster is made from, how it is, and which of its services failed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import shutil
from pathlib import Path
from typing import Any

import managed_k8s_common as common
from salt.exceptions import CommandExecutionError

importlib.reload(common)
__opts__: dict[str, Any]
__pillar__: dict[str, Any]
__salt__: dict[str, Any]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# Programs by the layer that installs them.
_LAYERS = {
    "container_runtime": {"containerd", "containerd-shim-runc-v2", "ctr", "runc"},
    "kubernetes": {"kubeadm", "kubelet", "kubectl", "etcdctl", "etcdutl"},
}
# What Salt copies to minions to run there, and top.sls syncs.
_EXTENSIONS = ("utils", "modules", "states", "beacons")
_PACKAGES = {
    "gateway": ["haproxy", "keepalived", "nftables", "curl"],
    "node": ["nftables", "iptables", "conntrack", "ethtool", "socat", "ebtables", "zstd"],
}
# Services that a server is nothing without.
_VITAL = {
    "gateway": ["haproxy", "keepalived"],
    "master": ["containerd", "kubelet"],
    "worker": ["containerd", "kubelet"],
}
# One that is being restarted by systemd is `activating`, however often.
_ALIVE = ("active", "reloading")
# Where etcd says of itself how it is. It listens for clients before it has opened its data, so one that ends at that,
# again and again, seems to be there at times (embed/etcd.go, StartEtcd; kubeadm's app/phases/etcd/local.go).
_ETCD_HEALTH = 2381
# Half of what a kubelet defends by removing pods and images (nodefs.available, 10 %): it has tried what it can. Waiting
# for a disk without a byte would be in vain, as what it removes leaves some free each time.
_FREE = 0.05


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def _pillar() -> dict[str, Any]:
    pillar: dict[str, Any] = __pillar__["managed_k8s"]
    return pillar


def has_extensions() -> bool:
    """Tell whether the utils, modules, states and beacons here are those of the Salt master: to sync takes seconds.

    CLI Example: ``salt demo-worker-1 managed_k8s_facts.has_extensions``
    """
    folder = Path(__opts__["extension_modules"])
    files = [file for kind in _EXTENSIONS for file in (folder / kind).rglob("*.py")]
    here = {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    return bool(here == __pillar__.get("managed_k8s", {}).get("extensions"))


def packages() -> list[str]:
    """Return the Debian packages that this server's role needs.

    CLI Example: ``salt demo-gateway-1 managed_k8s_facts.packages``
    """
    return _PACKAGES.get(_pillar()["role"], _PACKAGES["node"])


def artifacts_of(layer: str) -> dict[str, dict[str, str]]:
    """Return the mirror's files that a layer installs: ``bin`` and ``cni``, each name -> SHA-256.

    CLI Example: ``salt demo-worker-1 managed_k8s_facts.artifacts_of kubernetes``
    """
    sums = _pillar()["artifacts"]["sums"]
    programs = {name: digest for name, digest in sums.items() if name.removeprefix("bin/") in _LAYERS[layer]}
    return {"bin": programs, "cni": {name: digest for name, digest in sums.items() if name.startswith("cni/")}}


def interface() -> str:
    """Return the network interface that has this server's fixed address.

    CLI Example: ``salt demo-gateway-1 managed_k8s_facts.interface``
    """
    address = _pillar()["gateways"][_pillar()["name"]]
    for name, details in __salt__["network.interfaces"]().items():
        if any(entry.get("address") == address for entry in details.get("inet", ())):
            return str(name)
    raise CommandExecutionError(f"no network interface has {address}, which OpenStack gave to {_pillar()['name']}")


def get() -> dict[str, Any]:
    """Return what the reconciler needs to know about this server.

    revision: what it was made from. prepared: what it is ready for kubeadm with. kubeadm: none, partial, initialised or
    joined. etcd_data: whether there is a member. ailments: what does not work of what should. disk_free: 0 to 1, of the
    fullest disk. virtual_ip: whether a gateway has the API's address now; of others None. boot: id of its present boot.
    certificates: when they end.

    CLI Example: ``salt 'demo-*' managed_k8s_facts.get``
    """
    return {
        "revision": common.read(common.MANAGED / "revision"),
        "prepared": common.read(common.MANAGED / "prepared"),
        "kubeadm": __salt__["managed_k8s_kubeadm.state"](),
        "etcd_data": (common.ETCD_DATA / "member").is_dir(),
        "ailments": ailments(),
        "disk_free": _disk_free(),
        "virtual_ip": _has_virtual_ip(),
        "boot": boot(),
        "certificates": __salt__["managed_k8s_pki.expiry"](),
    }


def boot() -> str | None:
    """Return the id of this server's present boot, as the kubelet reports it.

    CLI Example: ``salt 'demo-*' managed_k8s_facts.boot``
    """
    return common.read(_BOOT_ID)


def _has_virtual_ip() -> bool | None:
    pillar = __pillar__.get("managed_k8s", {})
    if pillar.get("role") == "gateway":
        with contextlib.suppress(CommandExecutionError):
            found = common.run("ip", "-oneline", "address", "show", "to", f"{pillar['virtual_ip']}/32", limit=10)
            return bool(found.strip())
    return None


def ailments() -> list[str]:
    """Return what does not work on this server that should: names of services, ``etcd``, ``disk``.

    A server that is still being made has none. The beacon fires when this changes.

    CLI Example: ``salt 'demo-*' managed_k8s_facts.ailments``
    """
    role = _pillar()["role"]
    if role == "gateway":
        done = bool(common.read(common.MANAGED / "revision"))
    else:
        done = __salt__["managed_k8s_kubeadm.state"]() in ("initialised", "joined")
    if not done:
        return []
    found = _dead(_VITAL[role])
    if role == "master" and not common.listens(_ETCD_HEALTH):
        found.append("etcd")
    if _disk_free() < _FREE:
        found.append("disk")
    return found


def _disk_free() -> float:
    return min(usage.free / usage.total for usage in map(shutil.disk_usage, ("/", "/var/lib")))


def _dead(services: list[str]) -> list[str]:
    states = common.run("systemctl", "is-active", *services, limit=60, check=False).split()
    return [name for name, state in zip(services, states, strict=False) if state not in _ALIVE]


def restart_failed_services() -> dict[str, list[str]]:
    """Restart this server's vital services that do not run.

    CLI Example: ``salt demo-worker-1 managed_k8s_facts.restart_failed_services``
    """
    dead = _dead(_VITAL[_pillar()["role"]])
    for name in dead:
        # One that systemd gave up on does not start otherwise.
        common.run("systemctl", "reset-failed", name, limit=60, check=False)
        common.systemctl("restart", name)
    return {"changed": dead}
