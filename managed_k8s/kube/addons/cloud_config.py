"""How the cloud controller manager and Cinder CSI reach OpenStack: cloud.conf."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from managed_k8s.config.sections import Storage
from managed_k8s.kube.addons.manifests import Object, pod

SECRET = "cloud-config"  # noqa: S105  the name that upstream's manifests mount
NODE_CONFIG = "cinder-csi-node"
FOLDER = "/etc/config"
_DIGEST = "managed-k8s/cloud-config"


@dataclasses.dataclass(frozen=True)
class CloudAccess:
    """An application credential of the cluster's project, and what it is for.

    cluster: its name; marks volumes.
    ca: PEM bundle that vouches for the endpoints; empty: public authorities do.
    """

    cluster: str
    id: str
    secret: str = dataclasses.field(repr=False)
    auth_url: str
    region: str
    ca: str = ""

    @classmethod
    def of(cls, cluster: str, credential: Mapping[str, Any]) -> CloudAccess:
        """Return the access that a credential gives.

        credential: `id`, `secret`, `auth_url`, `region`, `ca`, as managed_k8s.cloud.credential makes it.
        """
        known = {name: credential[name] or "" for name in ("id", "secret", "auth_url", "region", "ca")}
        return cls(cluster=cluster, **known)


def objects(access: CloudAccess, storage: Storage) -> list[Object]:
    """Return the Secret with cloud.conf, and a ConfigMap for the CSI node plugin, which needs no credential.

    storage: the settings' `storage`.
    """
    files = {"cloud.conf": _ini({**_credential(access), **_block_storage(storage)})}
    if access.ca:
        files["ca.pem"] = access.ca
    data = {name: base64.b64encode(content.encode()).decode() for name, content in files.items()}
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": "kube-system"},
            "type": "Opaque",
            "data": data,
        },
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": NODE_CONFIG, "namespace": "kube-system"},
            "data": {"cloud.conf": _ini(_block_storage(storage))},
        },
    ]


def renew(items: Sequence[Object]) -> None:
    """Have the pods that read the Secret made anew when it changes: they read it once."""
    for item in items:
        if item["kind"] in ("Deployment", "DaemonSet") and _mounts_secret(pod(item)):
            secret = next(one for one in items if one["kind"] == "Secret" and one["metadata"]["name"] == SECRET)
            text = json.dumps(secret["data"], sort_keys=True)
            annotations = item["spec"]["template"].setdefault("metadata", {}).setdefault("annotations", {})
            annotations[_DIGEST] = hashlib.sha256(text.encode()).hexdigest()


def _mounts_secret(specification: Mapping[str, Any]) -> bool:
    return any(volume.get("secret", {}).get("secretName") == SECRET for volume in specification.get("volumes", []))


def _credential(access: CloudAccess) -> dict[str, dict[str, str]]:
    login = {
        "auth-url": access.auth_url,
        "application-credential-id": access.id,
        "application-credential-secret": access.secret,
        "region": access.region,
    }
    if access.ca:
        login["ca-file"] = f"{FOLDER}/ca.pem"
    return {"Global": login, "LoadBalancer": {"enabled": "false"}}


def _block_storage(storage: Storage) -> dict[str, dict[str, str]]:
    # With a zone of their own, volumes must not be looked for in the zones of servers.
    own_zone = storage.availability_zone is not None
    return {"BlockStorage": {"ignore-volume-az": str(own_zone).lower()}}


def _ini(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Return text in gcfg's format, values quoted, as they may hold # and ;."""
    lines = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{name}={_quoted(value)}" for name, value in values.items()]
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
