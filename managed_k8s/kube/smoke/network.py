"""Checks of the network, made by a pod on one node that asks a pod on another."""

from __future__ import annotations

import time
from collections.abc import Callable

from managed_k8s.kube.smoke import pods
from managed_k8s.kube.smoke.check import TRANSIENT, Check, FailedError, reason
from managed_k8s.kube.smoke.workspace import Workspace

NAMES = {
    "dns": "a pod resolves kubernetes.default",
    "pod": "a pod reaches a pod on another node",
    "service": "a pod reaches a service",
    "api": "a pod reaches the API at its virtual address",
    "logs": "the API reads a pod's log from its node",
}
_LIMIT = 60


def run(space: Workspace, image: str, nodes: tuple[str, str], virtual_ip: str, report: Callable[[Check], None]) -> None:
    """Make the checks of NAMES and report each.

    nodes: where the server and where the client runs.
    """
    start = time.monotonic()
    found: dict[str, tuple[bool, str]] = {}
    try:
        found = _ask(space, image, nodes, virtual_ip)
        problem = "the pod that asks gave no answer"
    except FailedError as error:
        problem = str(error)
    except TRANSIENT as error:
        problem = f"the API did not answer: {reason(error)}"
    for key, name in NAMES.items():
        ok, detail = found.get(key, (False, problem))
        report(Check(name, ok, detail, time.monotonic() - start))


def _ask(space: Workspace, image: str, nodes: tuple[str, str], virtual_ip: str) -> dict[str, tuple[bool, str]]:
    space.create(pods.service())
    space.create(pods.on(pods.server(image), nodes[0]))
    peer = space.wait_running("server", _LIMIT)
    space.create(pods.on(pods.client(image, peer, virtual_ip), nodes[1]))
    answers = space.wait_done("client", _LIMIT)
    # Only now: a pod that runs has not said yet that it listens.
    return {"logs": _log(space), **parse(answers)}


def _log(space: Workspace) -> tuple[bool, str]:
    try:
        text = space.core.read_namespaced_pod_log("server", space.namespace)
    except TRANSIENT as error:
        return False, f"{reason(error)}; is the kubelet's serving certificate approved?"
    return "listening" in text, "read" if "listening" in text else f"unexpected log: {text[-200:]!r}"


def parse(answers: str) -> dict[str, tuple[bool, str]]:
    """Return check -> (passed, detail) of what the asking pod wrote, a line per check: `name ok|failed detail`."""
    lines = [line.split(" ", 2) for line in answers.splitlines() if line.count(" ")]
    return {words[0]: (words[1] == "ok", words[2] if len(words) > 2 else "") for words in lines}
