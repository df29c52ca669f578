"""What a lab could leave behind on the host, before and after."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from lab.command import run

Footprint = dict[str, dict[str, str]]  # kind of thing -> which one -> its value

# What changes by itself, or is an action and no setting.
VOLATILE_SYSCTLS = re.compile(
    r"kernel/(random|ns_last_pid|perf_event_max_sample_rate|sched_domain|keys)\b|fs/(binfmt_misc|dentry-state|inode)"
    r"|.*(-nr|_nr|/flush|_count|/stat_refresh|/compact_memory|/drop_caches)$"
)


def take(folder: Path) -> Footprint:
    """Note everything that a lab could leave behind.

    folder: the lab's state; a process that names it belongs to the lab.
    """
    return {
        "process": _processes(folder),
        "mount": _mounts(),
        "network namespace": {path.name: "" for path in _listed(Path("/run/netns"))},
        "network interface": _interfaces(),
        "route": _lines("ip", "route", "show", "table", "all") | _lines("ip", "-6", "route", "show", "table", "all"),
        "packet filter rule": _lines("nft", "list", "ruleset") | _lines("iptables-save") | _lines("ip6tables-save"),
        "cgroup": dict.fromkeys(_cgroups(), ""),
        "loop device": _loop_devices(),
        "sysctl": _sysctls(),
    }


def left_behind(before: Footprint, after: Footprint) -> list[str]:
    """Return a sentence for everything that is there now and was not, is gone, or has another value.

    Processes may end; sysctls come and go with the interfaces and modules that they belong to.
    """
    found = []
    for kind, now in after.items():
        was = before[kind]
        if kind != "sysctl":
            found += [f"{kind} {name} is new{_value(now[name])}" for name in now.keys() - was.keys()]
        if kind not in ("process", "sysctl"):
            found += [f"{kind} {name} is gone{_value(was[name])}" for name in was.keys() - now.keys()]
        found += [
            f"{kind} {name} was {was[name]!r} and is {now[name]!r}"
            for name in now.keys() & was.keys()
            if now[name] != was[name]
        ]
    return sorted(found)


def _value(value: str) -> str:
    return f": {value}" if value else ""


def _listed(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _lines(*command: str) -> dict[str, str]:
    if not shutil.which(command[0]):
        return {}
    # Counters and the life times of learnt routes go on; comments have the time of day.
    printed = re.sub(r"\[\d+:\d+\]|packets \d+ bytes \d+|expires \d+sec", "", run(*command, check=False))
    return {line.strip(): "" for line in printed.splitlines() if line.strip() and not line.startswith("#")}


def _processes(folder: Path) -> dict[str, str]:
    """Processes that name the lab's folder or live in namespaces other than ours: other programs come and go."""
    ours = _namespaces(Path("/proc/self"))
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if command and (str(folder) in command or _namespaces(path) != ours):
                found[f"{path.name} ({command})"] = ""
        except OSError:
            continue  # it ended meanwhile
    return found


def _namespaces(process: Path) -> tuple[str, ...]:
    return tuple(os.readlink(process / "ns" / kind) for kind in ("cgroup", "ipc", "mnt", "net", "pid", "uts"))  # noqa: PTH115 - not a path


def _mounts() -> dict[str, str]:
    mounts = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        mounts[f"{fields[4]} of {fields[3]}"] = " ".join(fields[fields.index("-") + 1 :][:2])
    return mounts


def _interfaces() -> dict[str, str]:
    links = json.loads(run("ip", "-json", "address"))
    return {
        link["ifname"]: " ".join(f"{entry['local']}/{entry['prefixlen']}" for entry in link["addr_info"])
        for link in links
    }


def own_cgroups(text: str, top: Path) -> Iterator[Path]:
    """Return the folders, below `top`, of the cgroups that the text of /proc/self/cgroup names."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        hierarchies = [top / controllers.removeprefix("name=")] if controllers else [top / "unified", top]
        folders = [hierarchy / path.lstrip("/") for hierarchy in hierarchies]
        yield from [folder for folder in folders if folder.is_dir()][:1]


def _cgroups() -> Iterator[str]:
    """Cgroups below our own, where the lab makes its own, and where systemd does; others come and go."""
    top = Path("/sys/fs/cgroup")
    tops = [*own_cgroups(Path("/proc/self/cgroup").read_text(), top), top / "system.slice"]
    for folder in tops:
        yield from (parent for parent, _, _ in os.walk(folder))


def _loop_devices() -> dict[str, str]:
    listed = json.loads(run("losetup", "--json", "--list", "--output", "NAME,BACK-FILE") or "{}")
    return {device["name"]: str(device["back-file"]) for device in listed.get("loopdevices", [])}


def _sysctls(top: Path = Path("/proc/sys")) -> dict[str, str]:
    values = {}
    for parent, _, names in os.walk(top):
        for path in (Path(parent, name) for name in names):
            name = str(path.relative_to(top))
            if VOLATILE_SYSCTLS.match(name) or not path.stat().st_mode & 0o200:
                continue
            try:
                values[name] = path.read_text().strip()
            except (OSError, UnicodeDecodeError):
                continue  # may be written only, or is not set
    return values
