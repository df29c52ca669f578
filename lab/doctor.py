"""Whether this machine can run the lab.  Everything that is wrong is found before anything is changed."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sysconfig
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from pathlib import Path

from lab import apt, artifacts
from lab.command import CommandError, run
from lab.machine import LINK, Machine
from lab.settings import Settings

GB = 10**9
MEMORY = 8 * GB  # the cloud takes 5, a few servers the rest
STATE_DISK, CACHE_DISK = 20 * GB, 15 * GB

CGROUP = Path("/sys/fs/cgroup")
CONTROLLERS_V1 = ("blkio", "cpu", "cpuset", "devices", "freezer", "memory", "pids", "name=systemd")
CONTROLLERS_V2 = ("cpu", "cpuset", "memory", "pids")

# overlayfs needs an upper layer with trusted.* attributes and whiteouts; a tmpfs is gone after a reboot.
UNFIT_FILE_SYSTEMS = ("9p", "cifs", "exfat", "fuse", "msdos", "nfs", "ntfs", "overlay", "ramfs", "smb", "tmpfs", "vfat")

# Option of the kernel's configuration -> who needs it.
KERNEL_OPTIONS = {
    "BLK_DEV_LOOP": "disks and volumes of servers",
    "BRIDGE": "Neutron's networks",
    "BRIDGE_NETFILTER": "security groups",
    "EXT4_FS": "disks of servers",
    "IP_SET": "security groups",
    "IP_SET_HASH_NET": "security groups",
    "NETFILTER_XT_MATCH_COMMENT": "security groups",
    "NETFILTER_XT_MATCH_CONNTRACK": "security groups",
    "NETFILTER_XT_MATCH_MAC": "allowed address pairs",
    "NETFILTER_XT_MATCH_PHYSDEV": "security groups",
    "NETFILTER_XT_SET": "security groups",
    "NETFILTER_XT_TARGET_CT": "security groups",
    "NETFILTER_XT_TARGET_REDIRECT": "the metadata service",
    "NET_NS": "hypervisors and servers",
    "NFT_COMPAT": "security groups",
    "NFT_NAT": "floating IPs",
    "NF_CONNTRACK": "security groups and floating IPs",
    "NF_TABLES": "security groups and floating IPs",
    "NF_TABLES_BRIDGE": "ARP spoofing protection",
    "OVERLAY_FS": "root file systems",
    "PID_NS": "servers",
    "TUN": "programs in servers",
    "VETH": "ports",
    "VXLAN": "Neutron's networks",
}
DEVICES = {
    "/dev/fuse": ("fuse", "programs in servers"),
    "/dev/loop-control": ("loop", "disks and volumes of servers"),
    "/dev/net/tun": ("tun", "programs in servers"),
}
# What is tried in namespaces of its own, which end with the attempt: title -> (program that it needs, shell command).
ATTEMPTS = {
    "make mount, network and process namespaces": ("unshare", "true"),
    "mount an overlay file system": ("mount", "mount -t overlay overlay -o lowerdir=/usr:/etc /mnt"),
    "make a veth pair": ("ip", "ip link add lab1 type veth peer name lab2"),
    "make a bridge": ("ip", "ip link add lab1 type bridge"),
    "make a VXLAN": ("ip", "ip link add lab1 type vxlan id 1 dstport 8472 dev lo"),
    "translate addresses": (
        "nft",
        "echo 'table ip lab { chain c { type nat hook postrouting priority 100; ct state new masquerade; }; }' "
        "| nft -f -",
    ),
}

# Program or file that is looked for -> its Debian package.
PACKAGES = {
    **{name: name for name in artifacts.PROGRAMS},
    "systemd-nspawn": "systemd-container",
    # The Salt master of a cluster in the lab is this machine: it keeps the backups.
    "borg": "borgbackup",
    "gpg": "gpg",
    "gpgconf": "gpgconf",
    # Salt's timelib comes as source only.
    f"{sysconfig.get_path('include')}/Python.h": "python3-dev",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}


def problems(settings: Settings) -> list[str]:
    """Return a sentence for everything that makes this machine unfit: what was found, what is needed, what to do.

    Changes nothing, though the kernel may load modules that the lab needs.  A lab that is up is no problem.
    """
    return [
        *_root(),
        *_system(),
        *_kernel(),
        *_devices(),
        *_cgroups(),
        *_sysctls(),
        *_memory(settings),
        *_disk(settings),
        *_addresses(settings),
        *artifacts.go_problems(),
    ]


def missing_packages() -> list[str]:
    """Return the Debian packages that the lab needs on this machine and that `lab up` installs."""
    return [package for name, package in PACKAGES.items() if not _installed(name)]


def _installed(name: str) -> bool:
    return Path(name).exists() if name.startswith("/") else shutil.which(name) is not None


# The system


def _root() -> list[str]:
    if os.geteuid() == 0:
        return []
    return [
        f"user: you are user {os.geteuid()}, and the lab mounts, makes network links and containers as root; run it "
        "with sudo (its settings, state and cache are then root's).  What only root can try was not tried"
    ]


def _system() -> list[str]:
    system, machine = os.uname().sysname, os.uname().machine
    if (system, machine) != ("Linux", "x86_64"):
        return [f"machine: found {system} on {machine}; the lab's packages and images are for Linux on x86_64"]
    if not shutil.which("apt-get"):
        return ["apt-get: not found; the lab needs Debian or Ubuntu, whose apt sources it installs from"]
    found = []
    if not shutil.which("ip"):
        found.append("ip: not found; install it: apt-get install iproute2")
    try:
        apt.source_files()
    except apt.AptError as error:
        found.append(str(error))
    return found


# Kernel


def _kernel() -> list[str]:
    release = os.uname().release
    config = _kernel_config(release)
    found = missing_options(config, modules=Path("/lib/modules", release).is_dir()) if config else []
    if os.geteuid() == 0:
        found += [failed for title, attempt in ATTEMPTS.items() for failed in _attempt(title, *attempt)]
    return found


def _kernel_config(release: str) -> str:
    """Return the running kernel's configuration; empty when it is nowhere to be read."""
    packed, plain = Path("/proc/config.gz"), Path(f"/boot/config-{release}")
    if packed.exists():
        return gzip.decompress(packed.read_bytes()).decode()
    return plain.read_text() if os.access(plain, os.R_OK) else ""


def missing_options(config: str, *, modules: bool) -> list[str]:
    """Compare a kernel's configuration with KERNEL_OPTIONS.

    modules: whether there is a folder of modules for this kernel; without it, what is built as a module is missing.
    """
    enabled = set(re.findall(r"^CONFIG_(\w+)=" + ("[ym]" if modules else "y"), config, re.MULTILINE))
    missing = [f"{option} ({user})" for option, user in KERNEL_OPTIONS.items() if option not in enabled]
    if not missing:
        return []
    return [
        f"kernel: built without {', '.join(missing)}; boot one that has them, like Debian's linux-image-amd64"
        + ("" if modules else ", with its modules in /lib/modules")
    ]


def _attempt(title: str, program: str, command: str) -> list[str]:
    if not shutil.which(program):
        return []
    try:
        run("unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", command, timeout=20)
    except CommandError as error:
        reason = str(error).splitlines()[-1].strip()
        return [
            f"kernel: cannot {title} ({reason}); load the module, or if this is a container, give it the right: "
            "run the lab on a machine of its own, virtual or real"
        ]
    return []


def _devices() -> list[str]:
    return [
        f"{path}: no such device, needed for {user}; run: modprobe {module}"
        for path, (module, user) in DEVICES.items()
        if not Path(path).is_char_device()
    ]


def _sysctls() -> list[str]:
    path = Path("/proc/sys/fs/inotify/max_user_instances")
    if os.geteuid() != 0 or os.access(path, os.W_OK):
        return []
    return [f"{path}: read-only, and the lab has to raise it; run the lab where /proc/sys is writable"]


# Cgroups


def _cgroups() -> list[str]:
    controllers = CGROUP / "cgroup.controllers"
    if controllers.exists():
        return missing_controllers(controllers.read_text())
    found = missing_hierarchies(Path("/proc/self/mountinfo").read_text())
    if os.geteuid() == 0 and not found:
        mounted = [_hierarchy(name) for name in CONTROLLERS_V1]
        found = [f"cgroups: {path} cannot be written; mount it rw" for path in mounted if not os.access(path, os.W_OK)]
    return found


def _hierarchy(controller: str) -> Path:
    return CGROUP / controller.removeprefix("name=")


def missing_controllers(available: str) -> list[str]:
    """Compare the text of cgroup v2's cgroup.controllers with what servers need."""
    missing = [name for name in CONTROLLERS_V2 if name not in available.split()]
    if not missing:
        return []
    return [
        f"cgroups: the controllers {', '.join(missing)} of cgroup v2 are not available here ({CGROUP}); remove "
        "cgroup_disable= from the kernel's command line, or have them delegated to this container"
    ]


def missing_hierarchies(mountinfo: str) -> list[str]:
    """Return which hierarchies of cgroup v1 are not where servers look for them."""
    there: set[str] = set()
    for mount in parse_mounts(mountinfo):
        if mount["type"] == "cgroup":
            there |= set(mount["options"].split(","))
    missing = [name for name in CONTROLLERS_V1 if name not in there]
    if not missing:
        return []
    commands = "; ".join(
        f"mkdir -p {_hierarchy(name)}; mount -t cgroup -o {'none,' if '=' in name else ''}{name} cgroup "
        f"{_hierarchy(name)}"
        for name in missing
    )
    return [f"cgroups: no hierarchy of cgroup v1 for {', '.join(missing)}; boot with cgroup v2, or run: {commands}"]


# Memory and disk


def _memory(settings: Settings) -> list[str]:
    if Machine(settings.state / "machine").process is not None:
        return []
    return too_little_memory(Path("/proc/meminfo").read_text(), _memory_limits())


def _memory_limits() -> dict[str, int]:
    """Return the limits of our own cgroup and those above it, in bytes, by the file that sets them."""
    limits: dict[str, int] = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        top, name = (CGROUP / "memory", "memory.limit_in_bytes") if controllers else (CGROUP, "memory.max")
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(top) and (folder / name).exists():
                text = (folder / name).read_text().strip()
                limits |= {str(folder / name): int(text)} if text.isdigit() else {}
    return limits


def too_little_memory(meminfo: str, limits: Mapping[str, int]) -> list[str]:
    """Compare /proc/meminfo and limits in bytes (file that sets it -> value) with what the lab needs."""
    available = int(re.findall(r"^MemAvailable:\s+(\d+) kB", meminfo, re.MULTILINE)[0]) * 1024
    values = {"memory available": available, **{f"memory limit in {file}": limit for file, limit in limits.items()}}
    return [
        f"memory: {name}: {size(value)}, needed {size(MEMORY)}; stop other programs, or give this machine more"
        for name, value in values.items()
        if value < MEMORY
    ]


def size(value: int) -> str:
    """Write a number of bytes for people."""
    return f"{value / GB:.1f} GB"


def _disk(settings: Settings) -> list[str]:
    mounts = parse_mounts(Path("/proc/self/mountinfo").read_text())
    found = []
    needs: dict[str, dict[Path, int]] = {}
    for name, folder, need in (("state", settings.state, STATE_DISK), ("cache", settings.cache, CACHE_DISK)):
        mount = mount_of(_existing(folder), mounts)
        found += unfit_file_system(name, folder, mount)
        needs.setdefault(mount["point"], {})[folder] = need
    return found + [line for point, needed in needs.items() for line in _too_little_disk(Path(point), needed)]


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists()).resolve()


def parse_mounts(mountinfo: str) -> list[dict[str, str]]:
    """Parse /proc/self/mountinfo; see proc_pid_mountinfo(5)."""
    mounts = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split(" ", 2)
        point = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), left.split()[4])
        mounts.append({"point": point, "type": kind, "options": options})
    return mounts


def mount_of(folder: Path, mounts: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return the mount that a folder lies on: the deepest one, and of these the last."""
    above = [mount for mount in mounts if folder.is_relative_to(mount["point"])]
    return max(enumerate(above), key=lambda pair: (len(Path(pair[1]["point"]).parts), pair[0]))[1]


def unfit_file_system(name: str, folder: Path, mount: Mapping[str, str]) -> list[str]:
    """Say whether a file system cannot hold the upper layers of overlays.

    name: of the setting.
    """
    if mount["type"].startswith(UNFIT_FILE_SYSTEMS):
        return [
            f"{name}: {folder} lies on {mount['type']} ({mount['point']}), which overlay file systems cannot stand on "
            f"or which does not last; set {name} to a folder on ext4, xfs or btrfs"
        ]
    return []


def _too_little_disk(point: Path, needed: Mapping[Path, int]) -> list[str]:
    free = shutil.disk_usage(point).free
    # Counting what is there already takes seconds; mostly it need not be known.
    there = {folder: 0 if free >= sum(needed.values()) else used(folder) for folder in needed}
    return too_little_disk(free, needed, there)


def used(folder: Path) -> int:
    """Return the bytes on disk below a folder, on its own file system."""
    printed = run("du", "--summarize", "--one-file-system", "--block-size=1", folder, check=False)
    return int(printed.split()[0]) if printed else 0


def too_little_disk(free: int, needed: Mapping[Path, int], there: Mapping[Path, int]) -> list[str]:
    """Compare the free bytes of one file system with what folders on it need, less what they hold already."""
    short = sum(max(need - there[folder], 0) for folder, need in needed.items()) - free
    if short <= 0:
        return []
    folders = " and ".join(
        f"{folder} (needed {size(need)}, holds {size(there[folder])})" for folder, need in needed.items()
    )
    return [
        f"disk: {size(free)} free for {folders}; free another {size(short)}, or set state or cache to a folder on a "
        "larger disk"
    ]


# Addresses


def _addresses(settings: Settings) -> list[str]:
    if not shutil.which("ip"):
        return []
    routes = json.loads(run("ip", "-4", "-json", "route", "show", "table", "all") or "[]")
    # The underlay network never leaves the cloud's machine.
    ranges = {name: getattr(settings.addresses, name) for name in ("api_network", "external_network")}
    return taken_ranges(ranges, routes)


def taken_ranges(ranges: Mapping[str, str], routes: Iterable[Mapping[str, object]]) -> list[str]:
    """Return which ranges overlap a route, and so an address, of this machine; the lab's own link does not count.

    ranges: setting's name -> network.
    routes: as `ip -json route` prints them.
    """
    found = []
    for name, text in ranges.items():
        network = IPv4Network(text)
        taken = {
            f"{route['dst']} on {route.get('dev', 'no interface')}"
            for route in routes
            if route.get("dev") != LINK
            and route["dst"] != "default"
            and network.overlaps(IPv4Network(str(route["dst"])))
        }
        if taken:
            found.append(
                f"addresses.{name}: {network} is in use on this machine ({', '.join(sorted(taken))}); choose another "
                "private range in the settings"
            )
    return found
