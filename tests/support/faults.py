"""What tests of healing and the soak share: what goes wrong, who writes meanwhile, and what is done about it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection
from typing import Any

from kubernetes.client import CoreV1Api

from managed_k8s.reconcile.reconciler import STATE
from managed_k8s.state.history import History
from tests.support.checkout import ETCDCTL, Cluster
from tests.support.command_line import lab
from tests.support.project import eventually

# Seconds until a server that was started or rebooted is well, and until one that was replaced is, on a busy machine;
# and until one is whose pods are waited for, or that is rebooted in vain before it is replaced.
REVIVED, REPLACED, REPLACED_LATE = 420, 900, 1500
# Seconds until a server that says nothing any more is called silent.
NOTICED = 120
# What of a cloud's API is needed to heal, and seconds for which it fails.
CLOUD, OUTAGE = ("keystone", "nova", "neutron"), 120
_LABEL = {"e2e": "healing"}
_ALL = 2000


class Writer:
    """Somebody who writes to the API all the time, and remembers what was acknowledged.

    `lost` is there afterwards: what was acknowledged and is not there.
    """

    def __init__(self, api: Any) -> None:
        self.core = CoreV1Api(api)
        self.written: list[str] = []
        self.failed = 0
        self.lost: set[str] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def _write(self) -> None:
        while not self._done.wait(1):
            name = f"e2e-healing-{time.time_ns()}"
            try:
                body = {"metadata": {"name": name, "labels": _LABEL}}
                self.core.create_namespaced_config_map("default", body, _request_timeout=10)
            except Exception:
                self.failed += 1
            else:
                self.written.append(name)

    def __enter__(self) -> Writer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        selector = ",".join(f"{key}={value}" for key, value in _LABEL.items())
        there = eventually(
            lambda: [self.core.list_namespaced_config_map("default", label_selector=selector).items], 120, interval=2
        )
        self.lost = set(self.written) - {item.metadata.name for item in there[0]}
        with contextlib.suppress(Exception):
            self.core.delete_collection_namespaced_config_map("default", label_selector=selector)
        print(f"{len(self.written)} writes acknowledged, {self.failed} refused, {len(self.lost)} lost")


# What is seen of it


def settled(cluster: Cluster, since: float) -> bool:
    """Tell whether a look after some time found everything as it should be."""
    state = cluster.store.read(STATE) or {}
    return bool(state.get("ready")) and state["time"] > since


def happened(
    cluster: Cluster, names: Collection[str], since: float, without: Collection[str] = ("begun", "progress")
) -> list[tuple[str, str, int]]:
    """Return what happened to servers, and to the cluster: (subject, what, seconds after some time)."""
    return [
        (entry["subject"], entry["what"], round(entry["time"] - since))
        for entry in History(cluster.store).last(_ALL)
        if entry["subject"] in (*names, "cluster") and entry["time"] > since and entry["what"] not in without
    ]


def is_healed(cluster: Cluster, names: Collection[str], since: float, by: str = "healed") -> bool:
    """Tell whether all of some servers are well again, and the cluster is as it should be.

    by: what happens to each of them last.
    """
    found = {(subject, what): seconds for subject, what, seconds in happened(cluster, names, since)}
    ended = [found.get((name, by)) for name in names]
    # The look that found them healed, whose time was rounded.
    return None not in ended and settled(cluster, since + max(seconds for seconds in ended if seconds is not None) - 2)


def await_event(cluster: Cluster, name: str, what: str, since: float, limit: float = NOTICED) -> None:
    """Wait until something happened to a server."""
    eventually(lambda: (name, what) in {one[:2] for one in happened(cluster, [name], since, ())}, limit, interval=1)


def leader(cluster: Cluster) -> str:
    """Return the master whose etcd leads the others."""
    script = f"{ETCDCTL} endpoint status --write-out=fields | grep -E '\"(MemberID|Leader)\"'"
    for name in cluster.names("master"):
        ids = [line.split(":")[1].strip() for line in cluster.ssh(name, script).splitlines()]
        if len(set(ids)) == 1:
            return name
    raise AssertionError("no etcd leads")


# What goes wrong


def _in_the_lab(fault: str) -> Callable[[Cluster, str], None]:
    def make(_: Cluster, name: str) -> None:
        lab("fault", fault, name)

    return make


def stop_kubelet(cluster: Cluster, name: str) -> None:
    """Stop a node's kubelet."""
    cluster.ssh(name, "sudo systemctl stop kubelet")


def corrupt_etcd(cluster: Cluster, name: str) -> None:
    """Overwrite the beginning of the database of a master's etcd, which ends at that and does not start any more."""
    # Stopped meanwhile, so that it writes nothing good over it.
    script = """pkill -STOP -x etcd
        dd if=/dev/urandom of=/var/lib/etcd/member/snap/db bs=64K count=64 conv=notrunc status=none && sync
        pkill -KILL -x etcd"""
    cluster.ssh(name, f"sudo sh -c '{script}'")


def delete_server(cluster: Cluster, name: str) -> None:
    """Delete a server behind our back."""
    cluster.cloud.compute.delete_server(cluster.servers[name]["id"])


STRIKES: dict[str, Callable[[Cluster, str], None]] = {
    "power-loss": _in_the_lab("power-loss"),
    "freeze": _in_the_lab("freeze"),
    "cut": _in_the_lab("cut"),
    "fill-disk": _in_the_lab("fill-disk"),
    "stop-kubelet": stop_kubelet,
    "corrupt-etcd": corrupt_etcd,
    "delete": delete_server,
}


def restart_salt_master(cluster: Cluster) -> None:
    """Stop the Salt master, and whatever reconciles, and start it again."""
    cluster.checkout.stop_master()
    cluster.checkout.start_master()


def fail_cloud(_: Cluster) -> None:
    """Let the cloud's API answer 503 for a time, and return after it."""
    for service in CLOUD:
        lab("fault", "api-error", service, "--rate", "1.0")
    time.sleep(OUTAGE)
    for service in CLOUD:
        lab("fault", "undo", "api-error", service)
