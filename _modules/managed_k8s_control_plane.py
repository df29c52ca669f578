"""
The static pods of a control plane node: stopping, starting and restarting them, and whether they are well.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import managed_k8s_common as common
import yaml
from salt.exceptions import CommandExecutionError

importlib.reload(common)

# Where each component says that it is well.
_HEALTH = {
    "etcd": "http://127.0.0.1:2381/health",
    "kube-apiserver": "https://127.0.0.1:6443/livez",
    "kube-controller-manager": "https://127.0.0.1:10257/healthz",
    "kube-scheduler": "https://127.0.0.1:10259/healthz",
}
# Ends at once. An API server whose etcd is gone would take its whole grace of half a minute.
_ENDING = dict.fromkeys(_HEALTH, signal.SIGKILL) | {"etcd": signal.SIGTERM}
_STOPPED = common.KUBERNETES / "managed-k8s" / "stopped"


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def stop() -> dict[str, list[str]]:
    """End this master's API server, controller manager and scheduler, as it leaves the cluster; others take over.

    CLI Example: ``salt demo-master-3 managed_k8s_control_plane.stop``
    """
    moved = _move(common.MANIFESTS, _STOPPED)
    common.until(lambda: not common.listens(common.API_PORT), 60, pause=0.5)
    return {"changed": moved}


def start() -> dict[str, list[str]]:
    """Undo `stop`.

    CLI Example: ``salt demo-master-3 managed_k8s_control_plane.start``
    """
    return {"changed": _move(_STOPPED, common.MANIFESTS)}


def _move(source: Path, target: Path) -> list[str]:
    """Move the manifests of all components but etcd."""
    target.mkdir(mode=0o700, exist_ok=True, parents=True)
    found = [file for name in _HEALTH if name != "etcd" and (file := source / f"{name}.yaml").is_file()]
    for file in found:
        file.rename(target / file.name)
    return [file.name for file in found]


def end_processes() -> bool:
    """End the control plane's containers; nobody starts them again while the kubelet is stopped.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    end = time.monotonic() + 20
    for pid, name in _processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, _ENDING[name])
    while left := _processes():
        if time.monotonic() > end:
            for pid, _ in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + 20
        time.sleep(0.1)
    return True


def _processes() -> list[tuple[int, str]]:
    """Return the control plane's processes: (number, name)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            name = Path(words[0]).name
            # Not an etcd that somebody runs in a pod of his own.
            if name in _ENDING and (name != "etcd" or f"--data-dir={common.ETCD_DATA}" in words):
                found.append((int(folder.name), name))
    return found


def restart() -> list[str]:
    """Have the kubelet make the static pods anew, one after the other; return which are not well soon.

    CLI Example: ``salt demo-master-1 managed_k8s_control_plane.restart``
    """
    return [component for component in _HEALTH if not _restart(component)]


def _restart(component: str) -> bool:
    """Have the kubelet make a static pod anew; return whether it is well soon.

    An annotation is enough: the kubelet takes a static pod whose manifest changed for another one
    (pkg/kubelet/config/common.go, applyDefaults). kubeadm's next upgrade writes the manifest without it.
    """
    before = _containers(component)
    path = common.MANIFESTS / f"{component}.yaml"
    manifest = yaml.safe_load(path.read_text())
    manifest["metadata"].setdefault("annotations", {})["managed-k8s/restarted"] = str(time.time())
    # The kubelet does not read files that begin with a dot.
    part = path.with_name(f".{path.name}")
    part.touch(mode=0o600)
    part.write_text(yaml.safe_dump(manifest, sort_keys=False))
    part.rename(path)

    def is_another() -> bool:
        now = _containers(component)
        return bool(now - before) and not now & before

    if not common.until(is_another, 180):
        raise CommandExecutionError(f"the kubelet does not restart {component}; see journalctl -u kubelet")
    return common.until(lambda: _is_well(component), 60)


def _containers(component: str) -> set[str]:
    """Return the ids of a component's containers that run."""
    ctr = [str(common.PROGRAMS / "ctr"), "--namespace", "k8s.io"]
    label = f'labels."io.kubernetes.container.name"=={component}'
    named = set(common.run(*ctr, "containers", "list", "--quiet", label, limit=60).split())
    lines = common.run(*ctr, "tasks", "list", limit=60).splitlines()
    running = {words[0] for words in map(str.split, lines) if len(words) == 3 and words[2] == "RUNNING"}
    return named & running


def _is_well(component: str) -> bool:
    answer = common.get(_HEALTH[component])
    if answer is None:
        return False
    with contextlib.suppress(ValueError, TypeError, KeyError):
        said: Any = json.loads(answer)["health"]
        return bool(said == "true")
    return True


def await_api() -> float:
    """Wait until etcd and the API server here answer; return how many seconds that took.

    CLI Example: ``salt demo-master-1 managed_k8s_control_plane.await_api``
    """
    started = time.monotonic()
    url = f"https://127.0.0.1:{common.API_PORT}/readyz"
    if not common.until(lambda: common.get(url) is not None, 180, pause=0.3):
        raise CommandExecutionError("the API server was not ready within 180 seconds; see: journalctl -u kubelet")
    return round(time.monotonic() - started, 1)
