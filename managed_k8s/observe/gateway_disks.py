"""Whether the disks of gateways are full, asked over SSH: who they work for does not see it, they serve on.

A program beside the minion, as the kubelet is on other servers.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Collection, Mapping
from typing import Any

from managed_k8s.config import load
from managed_k8s.config.cluster_map import MapError
from managed_k8s.openstack import ssh
from managed_k8s.state.store import Store

# As a minion says it of its own server: _modules/managed_k8s_facts.py.
_FREE = 0.05
_COMMAND = "df --block-size=1 --output=avail,size / /var/lib"
_TIMEOUT = 10


class Disks:
    """Asks the servers of one cluster."""

    def __init__(self, opts: Mapping[str, Any], store: Store) -> None:
        self.opts, self.store = opts, store

    def full(self, names: Collection[str], servers: Mapping[str, Mapping[str, Any]]) -> dict[str, bool]:
        """Return whether servers with a floating IP have a full disk; nothing about those that do not let us in.

        servers: as listing() returns them.
        """
        asked = [name for name in names if servers[name].get("floating_ip")]
        if not asked:
            return {}
        try:
            keys = load.keys(self.opts, self.store.cluster)
        except MapError:
            # Somebody writes it just now; the next look asks again.
            return {}
        logins = [
            ssh.login(self.store, keys.get(name, {}), servers[name]["id"], servers[name]["floating_ip"])
            for name in asked
        ]
        with concurrent.futures.ThreadPoolExecutor(len(asked)) as pool:
            answers = zip(asked, pool.map(is_full, logins), strict=True)
        return {name: answer for name, answer in answers if answer is not None}


def is_full(login: ssh.Ssh) -> bool | None:
    """Tell whether a server has less than 5 % of a disk free; None when it cannot be asked."""
    try:
        lines = login.run(_COMMAND, timeout=_TIMEOUT).splitlines()[1:]
        sizes = [[int(number) for number in line.split()] for line in lines]
        return any(free < size * _FREE for free, size in sizes)
    except (ssh.DeployError, OSError, ValueError):
        return None
