"""
The etcd member of a control plane node.
"""

from __future__ import annotations

import base64
import importlib
import json
import time
from typing import Any
from urllib.parse import urlsplit

import managed_k8s_common as common
from salt.exceptions import CommandExecutionError

importlib.reload(common)
__pillar__: dict[str, Any]
__salt__: dict[str, Any]


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def members() -> list[dict[str, Any]]:
    """Return etcd's members as this master sees them: id (hexadecimal), name, addresses, healthy, voter.

    A member that never started has no name and is not healthy; its address is known.

    CLI Example: ``salt demo-master-1 managed_k8s_etcd.members``
    """
    listed = json.loads(common.etcdctl("member", "list", "--write-out=json"))["members"]
    # Ends with an error when one is ill, and says which all the same.
    answers = common.etcdctl("endpoint", "health", "--cluster", "--write-out=json", check=False)
    healthy = {answer["endpoint"] for answer in json.loads(answers or "[]") if answer["health"]}
    return [
        {
            "id": f"{member['ID']:x}",
            "name": member.get("name", ""),
            "addresses": sorted({urlsplit(url).hostname for url in member["peerURLs"]}),
            "healthy": any(url in healthy for url in member.get("clientURLs", ())),
            "voter": not member.get("isLearner", False),
        }
        for member in listed
    ]


def remove_member(member_id: str) -> dict[str, bool]:
    """Take a member out of etcd; one that is not in it is fine. Refused when the others would be no quorum.

    member_id: hexadecimal, as in `members`.

    CLI Example: ``salt demo-master-1 managed_k8s_etcd.remove_member 8e9e05c52164694d``
    """
    # Salt makes a number of what looks like one.
    member_id = str(member_id)
    found = members()
    if member_id not in [member["id"] for member in found]:
        return {"changed": False}
    rest = [member for member in found if member["voter"] and member["id"] != member_id]
    healthy = sum(member["healthy"] for member in rest)
    if healthy <= len(rest) // 2:
        raise CommandExecutionError(
            f"etcd would lose its quorum: without member {member_id} {healthy} of {len(rest)} members are healthy"
        )
    common.etcdctl("member", "remove", member_id)
    return {"changed": True}


def forget_others(server: str) -> bool:
    """Take out of etcd, before anybody reads it, who led and served before, and an earlier server of this name.

    Nobody has to wait until leases of what is gone end, and the kubelet makes its own Node rather than take over one.
    server: Nova's id of this server.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    end = time.monotonic() + 120
    while True:
        try:
            common.etcdctl("endpoint", "health")
            break
        except CommandExecutionError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)
    for prefix in ("/registry/masterleases/", "/registry/leases/kube-system/"):
        common.etcdctl("del", "--prefix", prefix)
    key = f"/registry/minions/{__pillar__['managed_k8s']['name']}"
    for found in json.loads(common.etcdctl("get", key, "--write-out=json")).get("kvs", ()):
        node = base64.b64decode(found["value"])
        if b"openstack://" in node and server.encode() not in node:
            common.etcdctl("del", key)
            __salt__["managed_k8s_kubeadm.forget_network"]()
    return True
