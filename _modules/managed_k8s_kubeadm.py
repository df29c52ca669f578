"""
kubeadm on a node: it begins a cluster, joins one, and is taken out of it.

Its configuration comes with the pillar. Join secrets do too, in one that is asked for afresh, and go to kubeadm in
files that only root can read: they are never arguments, results or log lines.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path
from typing import Any

import managed_k8s_common as common
import salt.pillar
import yaml
from salt.exceptions import CommandExecutionError

importlib.reload(common)
__grains__: dict[str, Any]
__opts__: dict[str, Any]

# Addresses that pods have; and which range this node has, which flannel's plugin reads.
_CNI, _FLANNEL = Path("/var/lib/cni"), Path("/run/flannel/subnet.env")


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def state() -> str:
    """Return how far kubeadm came here: none, partial, initialised or joined.

    CLI Example: ``salt demo-master-1 managed_k8s_kubeadm.state``
    """
    # `kubeadm init` ended well; a control plane without this was left half-made.
    if (common.MANAGED / "initialised").is_file():
        return "initialised"
    has_kubelet = (common.KUBERNETES / "kubelet.conf").is_file()
    if has_kubelet and (common.MANAGED / "joined").is_file():
        return "joined"
    has_control_plane = (common.MANIFESTS / common.API_SERVER).is_file() or (common.ETCD_DATA / "member").is_dir()
    return "partial" if has_kubelet or has_control_plane else "none"


def _is_member() -> bool:
    """Tell whether this node is in its cluster; one that is there half is reset."""
    found = state()
    if found == "partial":
        reset()
    return found in ("initialised", "joined")


def init() -> dict[str, bool]:
    """Make this master the first of its cluster; done already is done. A half-made one is reset and begun again.

    The reconciler asks only when no other master can have one.

    CLI Example: ``salt demo-master-1 managed_k8s_kubeadm.init``
    """
    if _is_member():
        return {"changed": False}
    # Images are there already, and nobody needs the keys to the cluster from kubeadm's output.
    common.kubeadm("init", "--config", str(common.MANAGED / "kubeadm.yaml"), "--skip-token-print")
    (common.MANAGED / "initialised").write_text("")
    return {"changed": True}


def upload_certificates() -> bool:
    """Put the control plane's keys, encrypted with the key in the pillar, where a joining master finds them for 2 h.

    CLI Example: ``salt demo-master-1 managed_k8s_kubeadm.upload_certificates``
    """
    secrets = _join_secrets(_fresh_pillar())
    documents = list(yaml.safe_load_all((common.MANAGED / "kubeadm.yaml").read_text()))
    documents[0]["certificateKey"] = secrets["certificate_key"]
    with common.private("upload.yaml", yaml.safe_dump_all(documents)) as file:
        common.kubeadm("init", "phase", "upload-certs", "--upload-certs", "--config", str(file))
    return True


def join() -> dict[str, bool]:
    """Join the cluster by this server's role; done already is done. A half-made join is reset and begun again.

    CLI Example: ``salt demo-worker-1 managed_k8s_kubeadm.join``
    """
    if _is_member():
        return {"changed": False}
    pillar = _fresh_pillar()
    secrets = _join_secrets(pillar)
    with (
        common.private("discovery.conf", _discovery(pillar["virtual_ip"], secrets)) as discovery,
        common.private("join.yaml", yaml.safe_dump(_join_configuration(pillar, secrets, discovery))) as file,
    ):
        common.kubeadm("join", "--config", str(file))
    (common.MANAGED / "joined").write_text("")
    return {"changed": True}


def _fresh_pillar() -> dict[str, Any]:
    """Ask the Salt master now: secrets come and go, and what is in memory is as old as the minion's start.

    Not `pillar.items`, which puts asterisks for what it takes for a secret.
    """
    compiled = salt.pillar.get_pillar(__opts__, dict(__grains__), __opts__["id"], "base").compile_pillar()
    if "managed_k8s" not in compiled:
        problem = "; ".join(compiled.get("_errors", ())) or "this minion's id is no node of a cluster with settings"
        raise CommandExecutionError(f"the Salt master gives no pillar: {problem}")
    pillar: dict[str, Any] = compiled["managed_k8s"]
    return pillar


def _join_secrets(pillar: dict[str, Any]) -> dict[str, str]:
    secrets: dict[str, str] | None = pillar["secrets"]["join"]
    if not secrets:
        raise CommandExecutionError("no join is under way for this node: the Salt master gave no token")
    return secrets


def _join_configuration(pillar: dict[str, Any], secrets: dict[str, str], discovery: Path) -> dict[str, Any]:
    document: dict[str, Any] = {
        **pillar["kubeadm"]["join"],
        "discovery": {"file": {"kubeConfigPath": str(discovery)}, "tlsBootstrapToken": secrets["token"]},
    }
    if pillar["role"] == "master":
        document["controlPlane"] = {"certificateKey": secrets["certificate_key"]}
    return document


def _discovery(virtual_ip: str, secrets: dict[str, str]) -> str:
    """Return a kubeconfig that says where the API is and whom to believe.

    The token is in it because nobody without a name may read kubeadm's cluster-info here; a name that may not read it
    either lets kubeadm go on with what this file says (cmd/kubeadm/app/discovery/file).
    """
    cluster = {"server": f"https://{virtual_ip}:{common.API_PORT}", "certificate-authority-data": secrets["ca"]}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "cluster", "cluster": cluster}],
            "users": [{"name": "joining", "user": {"token": secrets["token"]}}],
            "contexts": [{"name": "joining", "context": {"cluster": "cluster", "user": "joining"}}],
            "current-context": "joining",
        }
    )


def reset() -> bool:
    """Take this node out of everything kubeadm made, the etcd member's data too. For a node that is no member.

    CLI Example: ``salt demo-worker-2 managed_k8s_kubeadm.reset``
    """
    for name in ("joined", "initialised"):
        (common.MANAGED / name).unlink(missing_ok=True)
    common.kubeadm("reset", "--force", "--cri-socket", common.CRI_SOCKET)
    for folder in (common.ETCD_DATA, common.KUBELET / "pki"):
        shutil.rmtree(folder, ignore_errors=True)
    # Not the folder: containerd, which watches it, ends with it.
    for file in Path("/etc/cni/net.d").glob("*"):
        file.unlink()
    forget_network()
    return True


def forget_network() -> bool:
    """Remove what an earlier membership left of the pod network: a Node that is made anew has another range.

    CLI Example: ``salt demo-worker-2 managed_k8s_kubeadm.forget_network``
    """
    for link in ("cni0", "flannel.1"):
        # Where the network is another one, there is none.
        common.run("ip", "link", "delete", link, limit=60, check=False)
    shutil.rmtree(_CNI, ignore_errors=True)
    # A pod that starts before flannel does would bring the old range back by it.
    _FLANNEL.unlink(missing_ok=True)
    return True


def mark_control_plane() -> bool:
    """Mark this server's Node as a control plane's, as kubeadm does; done already is done.

    CLI Example: ``salt demo-master-1 managed_k8s_kubeadm.mark_control_plane``
    """
    common.kubeadm_phase("mark-control-plane")
    return True
