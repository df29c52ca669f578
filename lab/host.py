"""What the lab changes on the host, and taking it back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path

import tenacity

from lab.command import run
from lab.files import write
from lab.machine import GROUP, LINK, thaw
from lab.settings import Addresses

# All machines' root is the host's root: they share one pool of inotify instances, and 128 are used up by ten of them.
RAISED = {"fs.inotify.max_user_instances": 4096}
# kubelet and systemd set these where they run, which in a container is the host.
CHANGED_BY_SERVERS = (
    "fs.file-max",
    "fs.nr_open",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "kernel.panic",
    "kernel.panic_on_oops",
    "kernel.keys.root_maxkeys",
    "kernel.keys.root_maxbytes",
)


def _sysctl(name: str) -> Path:
    return Path("/proc/sys") / name.replace(".", "/")


def set_sysctls(saved: Path) -> None:
    """Raise what must be raised; note first how everything was.

    saved: file for the old values; one that is there from an interrupted run holds the true ones and stays.
    """
    if not saved.exists():
        names = [name for name in (*RAISED, *CHANGED_BY_SERVERS) if _sysctl(name).exists()]
        write(saved, json.dumps({name: _sysctl(name).read_text().strip() for name in names}))
    for name, least in RAISED.items():
        if int(_sysctl(name).read_text()) < least:
            _sysctl(name).write_text(str(least))


def restore_sysctls(saved: Path) -> None:
    """Set everything back to what was noted."""
    if saved.exists():
        for name, value in json.loads(saved.read_text()).items():
            if _sysctl(name).read_text().strip() != value:
                _sysctl(name).write_text(value)
        saved.unlink()


def connect(addresses: Addresses, state: Path) -> None:
    """Give the host's end of the machine's link its address, and a route to the floating IPs.

    state: noted on the link, so that another lab on this machine can say whose it is.
    """
    prefix = addresses.api_network.partition("/")[2]
    run("ip", "link", "set", LINK, "alias", f"managed-k8s lab in {state}")
    run("ip", "addr", "replace", f"{addresses.host}/{prefix}", "dev", LINK)
    run("ip", "link", "set", LINK, "up")
    run("ip", "route", "replace", addresses.external_network, "via", str(addresses.api), "dev", LINK)


def owner() -> Path | None:
    """Return the state folder of the lab whose link is there, or None."""
    if not shutil.which("ip"):
        return None  # then no lab ever ran here
    links = json.loads(run("ip", "-json", "link", "show", LINK, check=False) or "[]")
    alias = links[0].get("ifalias", "") if links else ""
    return Path(alias.removeprefix("managed-k8s lab in ")) if alias.startswith("managed-k8s lab in ") else None


def detach_loop_devices(folder: Path) -> None:
    """Detach the loop devices whose files lie below a folder: nothing else does when the machine is killed."""
    ours = {(status.st_ino, status.st_dev) for status in (path.stat() for path in folder.rglob("*") if path.is_file())}
    listed = run("losetup", "--json", "--list", "--output", "NAME,BACK-INO,BACK-MAJ:MIN")
    for device in json.loads(listed or "{}").get("loopdevices", []):
        major, minor = str(device["back-maj:min"]).split(":")
        if (int(device["back-ino"]), os.makedev(int(major), int(minor))) in ours:
            run("losetup", "--detach", device["name"], check=False)


def _groups() -> list[Path]:
    """Return the cgroups of the machine, of any version and in every hierarchy."""
    return list(Path("/sys/fs/cgroup").glob(f"**/{GROUP}*"))


def _processes() -> set[int]:
    found: set[int] = set()
    for group in _groups():
        for path in group.rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in path.read_text().split()}
    return found - {0, os.getpid()}


@tenacity.retry(stop=tenacity.stop_after_delay(20), wait=tenacity.wait_fixed(0.2), retry=tenacity.retry_if_result(bool))
def kill_remains() -> set[int]:
    """Kill what still runs in the machine's cgroups: when systemd-nspawn itself is killed, its container goes on.

    Raises tenacity.RetryError when something survives 20 seconds of it.
    """
    remains = _processes()
    thaw()
    for pid in remains:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return remains


def remove_cgroups() -> None:
    """Remove the machine's cgroups, which outlive their processes."""
    for group in _groups():
        below = sorted((path for path in group.rglob("*") if path.is_dir()), key=lambda path: -len(path.parts))
        for path in (*below, group):
            with contextlib.suppress(OSError):
                path.rmdir()
