"""The doctor's judgements, on texts as the kernel and programs print them."""

from pathlib import Path

import pytest

from lab import artifacts, doctor, settings
from lab.doctor import GB

MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 27 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
40 27 0:40 / /home/my\\040dïsk rw - xfs /dev/vdb rw
41 27 0:41 / /net rw - nfs4 server:/export rw
42 27 0:42 / /net rw - overlay overlay rw
"""


@pytest.mark.parametrize(
    ("printed", "fits"),
    [
        ("go1.26.8", True),
        ("go1.27rc1", True),
        ("go2.0", True),
        ("go1.9.7", False),
        ("go1.25.11", False),
        ("", False),
    ],
)
def test_go(printed, fits):
    assert (artifacts.old_go(printed, "/usr/bin") == []) is fits


def test_go_says_what_was_found_and_where_it_was_looked_for():
    (problem,) = artifacts.old_go("go1.19.8", "/usr/bin:/bin")
    for part in ("go1.19", "go1.26", "/usr/bin:/bin"):
        assert part in problem


def test_kernel_with_everything_built_in():
    config = "".join(f"CONFIG_{option}=y\n" for option in doctor.KERNEL_OPTIONS)
    assert doctor.missing_options(config, modules=False) == []


def test_kernel_options_that_are_missing_are_named_in_one_sentence():
    left_out = {"VXLAN", "NFT_NAT"}
    config = "".join(f"CONFIG_{option}=y\n" for option in doctor.KERNEL_OPTIONS if option not in left_out)
    (problem,) = doctor.missing_options(config + "# CONFIG_VXLAN is not set\n", modules=True)
    assert "VXLAN (Neutron's networks)" in problem
    assert "NFT_NAT (floating IPs)" in problem
    assert "VETH" not in problem


def test_kernel_modules_count_only_where_there_are_any():
    config = "".join(f"CONFIG_{option}=m\n" for option in doctor.KERNEL_OPTIONS)
    assert doctor.missing_options(config, modules=True) == []
    assert "/lib/modules" in doctor.missing_options(config, modules=False)[0]


def test_cgroup_v2_controllers():
    assert doctor.missing_controllers("cpuset cpu io memory hugetlb pids rdma\n") == []
    (problem,) = doctor.missing_controllers("cpu pids\n")
    assert "cpuset, memory" in problem


def test_cgroup_v1_hierarchies_that_are_missing_come_with_the_command_that_mounts_them():
    (problem,) = doctor.missing_hierarchies(MOUNTINFO)
    assert "for blkio, cpuset, devices, freezer, memory, pids;" in problem
    assert "mount -t cgroup -o memory cgroup /sys/fs/cgroup/memory" in problem
    (problem,) = doctor.missing_hierarchies("")
    assert "mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd" in problem


def test_memory():
    meminfo = "MemTotal: 33000000 kB\nMemAvailable: {} kB\n"
    assert doctor.too_little_memory(meminfo.format(8_000_000), {"/sys/fs/cgroup/memory.max": 8 * GB}) == []
    (problem,) = doctor.too_little_memory(meminfo.format(1_000_000), {})
    assert "1.0 GB, needed 8.0 GB" in problem
    (problem,) = doctor.too_little_memory(meminfo.format(16_000_000), {"/sys/fs/cgroup/memory.max": 2 * GB})
    assert "/sys/fs/cgroup/memory.max: 2.0 GB" in problem


def test_disk_counts_what_is_there_already_and_shares_of_one_file_system():
    state, cache = Path("/state"), Path("/cache")
    needed = {state: 20 * GB, cache: 15 * GB}
    nothing = {state: 0, cache: 0}
    assert doctor.too_little_disk(35 * GB, needed, nothing) == []
    assert doctor.too_little_disk(5 * GB, needed, {state: 30 * GB, cache: 10 * GB}) == []
    (problem,) = doctor.too_little_disk(30 * GB, needed, nothing)
    for part in ("30.0 GB free", "/state", "/cache", "another 5.0 GB"):
        assert part in problem


@pytest.mark.parametrize(
    ("folder", "point", "kind"),
    [
        ("/root/.cache", "/", "ext4"),
        ("/home/my dïsk/lab", "/home/my dïsk", "xfs"),
        ("/net/lab", "/net", "overlay"),  # mounted over the other one
        ("/network", "/", "ext4"),
    ],
)
def test_mount_of_a_folder(folder, point, kind):
    mount = doctor.mount_of(Path(folder), doctor.parse_mounts(MOUNTINFO))
    assert (mount["point"], mount["type"]) == (point, kind)


@pytest.mark.parametrize("kind", ["overlay", "nfs4", "tmpfs", "fuse.sshfs", "9p"])
def test_file_systems_that_cannot_hold_an_upper_layer(kind):
    (problem,) = doctor.unfit_file_system("state", Path("/x/lab"), {"point": "/x", "type": kind})
    for part in ("state", "/x/lab", kind):
        assert part in problem


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "zfs"])
def test_file_systems_that_can(kind):
    assert doctor.unfit_file_system("state", Path("/x"), {"point": "/", "type": kind}) == []


ROUTES = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
    {"dst": "10.88.0.0/24", "gateway": "10.77.0.10", "dev": "lab0"},
    {"dst": "10.77.0.1", "type": "local", "dev": "lab0"},
    {"dst": "10.0.0.0/14", "dev": "wg0"},
    {"dst": "10.89.0.7", "type": "local", "dev": "eth1"},
    {"dst": "10.90.0.0/16", "type": "blackhole"},
]


def test_ranges_of_the_labs_own_link_and_the_default_route_are_free():
    assert doctor.taken_ranges({"api_network": "10.77.0.0/24", "external_network": "10.88.0.0/24"}, ROUTES) == []


@pytest.mark.parametrize(
    ("network", "taker"),
    [
        ("10.1.0.0/24", "10.0.0.0/14 on wg0"),
        ("10.89.0.0/24", "10.89.0.7 on eth1"),
        ("10.90.3.0/24", "10.90.0.0/16 on no interface"),
    ],
)
def test_taken_ranges_say_by_whom(network, taker):
    (problem,) = doctor.taken_ranges({"api_network": network}, ROUTES)
    assert problem.startswith(f"addresses.api_network: {network} ")
    assert taker in problem


def test_without_root_everything_else_is_still_listed(monkeypatch, tmp_path):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(doctor, "MEMORY", 10**18)
    monkeypatch.setenv("PATH", "/nowhere")
    found = doctor.problems(settings.parse({"state": str(tmp_path), "cache": str(tmp_path)}, "test"))
    for start in ("user: you are user 1000", "memory: ", "apt-get: ", "go: found none"):
        assert any(problem.startswith(start) for problem in found), found


def test_missing_packages(monkeypatch, tmp_path):
    (tmp_path / "zstd").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = doctor.missing_packages()
    assert "systemd-container" in missing
    assert "mmdebstrap" in missing
    assert "zstd" not in missing
