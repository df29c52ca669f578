"""
A node whose version of Kubernetes or Debian's packages change while its cluster runs.

The Salt master says when: it sees to it that nothing runs on a node that may not, and that one master at a time is
touched.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import managed_k8s_common as common
import yaml
from salt.exceptions import CommandExecutionError

importlib.reload(common)
__pillar__: dict[str, Any]
__salt__: dict[str, Any]

# Where salt/kubernetes/next_version.sls puts the kubeadm that upgrades this node.
_NEXT_KUBEADM = Path("/usr/local/lib/managed-k8s/upcoming/kubeadm")
# Seconds that kubeadm may take: it waits for each static pod.
_LIMIT = 2100
_DEPRECATED = "apiserver_requested_deprecated_apis"


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def check() -> dict[str, Any]:
    """Return what an upgrade has to know of this server before it begins.

    free: bytes on the fullest of its disks. etcd: bytes of etcd's data. deprecated: what this master's API server
    counted of requests to APIs that will be gone, as lines of its metrics.

    CLI Example: ``salt 'demo-*' managed_k8s_upgrade.check``
    """
    folders = [folder for folder in (Path("/"), Path("/var/lib/containerd"), common.ETCD_DATA) if folder.is_dir()]
    etcd = sum(file.stat().st_size for file in common.ETCD_DATA.rglob("*") if file.is_file())
    return {
        "free": min(shutil.disk_usage(folder).free for folder in folders),
        "etcd": etcd,
        "deprecated": _deprecated(),
    }


def _deprecated() -> list[str]:
    manifest = common.MANIFESTS / common.API_SERVER
    if not manifest.is_file():
        return []
    annotations = yaml.safe_load(manifest.read_text())["metadata"]["annotations"]
    # Each API server counts its own; the virtual address leads to any of them.
    server = annotations["kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint"]
    metrics = common.run(
        str(common.PROGRAMS / "kubectl"), f"--kubeconfig={common.KUBERNETES}/admin.conf", f"--server=https://{server}",
        "get", "--raw", "/metrics", limit=60,
    )  # fmt: skip
    return [line for line in metrics.splitlines() if line.startswith(_DEPRECATED)]


def control_plane(version: str, first: bool = False) -> bool:
    """Upgrade this master's static pods and its kubelet's configuration by kubeadm of that version; done is done.

    first: whether it is the first of the cluster: what belongs to the cluster as a whole is upgraded too.

    CLI Example: ``salt demo-master-1 managed_k8s_upgrade.control_plane 1.37.2 first=True``
    """
    kubeadm = str(_NEXT_KUBEADM if _NEXT_KUBEADM.is_file() else common.PROGRAMS / "kubeadm")
    found = common.run(kubeadm, "version", "--output=short", limit=60).strip().removeprefix("v")
    if found != version:
        raise CommandExecutionError(f"kubeadm is {found}, not {version}; salt/kubernetes/next_version.sls brings it")
    words = ["apply", f"v{version}", "--yes"] if first else ["node"]
    _remove_old_copies()
    common.run(kubeadm, "upgrade", *words, *_ignored(), limit=_LIMIT)
    return True


def _remove_old_copies() -> None:
    """Keep of kubeadm's copies of etcd's data the newest: it makes one whenever it is run, and removes none."""
    copies = sorted((common.KUBERNETES / "tmp").glob("kubeadm-backup-etcd-*"), key=lambda copy: copy.stat().st_mtime)
    for copy in copies[:-1]:
        shutil.rmtree(copy)


def _ignored() -> list[str]:
    names = ",".join(__pillar__["managed_k8s"]["settings"]["kubernetes"]["ignore_preflight_errors"])
    return [f"--ignore-preflight-errors={names}"] if names else []


def kubelet(version: str) -> bool:
    """Have the kubelet of that version run, which the states installed: with its configuration, by a restart.

    CLI Example: ``salt demo-worker-1 managed_k8s_upgrade.kubelet 1.37.2``
    """
    found = (
        common.run(str(common.PROGRAMS / "kubelet"), "--version", limit=60).strip().rpartition(" ")[2].removeprefix("v")
    )
    if found != version:
        raise CommandExecutionError(f"the kubelet that is installed is {found}, not {version}; apply the states first")
    # On masters it did so when their static pods were upgraded.
    if not (common.MANIFESTS / common.API_SERVER).is_file():
        common.kubeadm("upgrade", "node", *_ignored(), limit=_LIMIT)
    common.systemctl("restart", "kubelet")
    return True


def packages() -> bool:
    """Upgrade Debian's packages, none that needs another removed; what configuration was changed stays.

    CLI Example: ``salt demo-worker-1 managed_k8s_upgrade.packages``
    """
    # Not pkg.upgrade, which goes on with old lists when a mirror cannot be read.
    environment = {"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    common.run("apt-get", "update", "--quiet", "--error-on=any", limit=300, env=environment)
    keep = ["-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"]
    common.run("apt-get", "upgrade", "--quiet", "--yes", "--with-new-pkgs", *keep, limit=1700, env=environment)
    return True


def reboot() -> bool:
    """Reboot this server in two seconds, so that the answer to this still gets away.

    A master's API server ends by itself before that, which fewer miss than one that vanishes; the boot starts it again.

    CLI Example: ``salt demo-worker-1 managed_k8s_upgrade.reboot``
    """
    if (common.MANIFESTS / common.API_SERVER).is_file():
        __salt__["managed_k8s_control_plane.stop"]()
        # Nobody starts it before the boot, and nobody has to after it: no Salt master is needed to bring it back.
        common.systemctl("stop", "kubelet")
        __salt__["managed_k8s_control_plane.start"]()
    common.run("systemd-run", "--on-active=2", "--timer-property=AccuracySec=100ms", "systemctl", "reboot", limit=60)
    return True
