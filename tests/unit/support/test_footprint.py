"""What the end-to-end tests call left behind."""

import subprocess
from pathlib import Path

import pytest

from tests.support import footprint

NOTHING = footprint.Footprint(mount={}, process={}, sysctl={})


def test_the_same_is_nothing():
    taken = {**NOTHING, "mount": {"/ of /": "ext4"}, "process": {"1 (init)": ""}}
    assert footprint.left_behind(taken, taken) == []


def test_new_gone_and_changed_things_are_named():
    before = {**NOTHING, "mount": {"/a": "ext4", "/b": "xfs"}, "sysctl": {"kernel/panic": "0"}}
    after = {**NOTHING, "mount": {"/a": "overlay", "/c": "tmpfs"}, "sysctl": {"kernel/panic": "10"}}
    assert footprint.left_behind(before, after) == [
        "mount /a was 'ext4' and is 'overlay'",
        "mount /b is gone: xfs",
        "mount /c is new: tmpfs",
        "sysctl kernel/panic was '0' and is '10'",
    ]


def test_processes_may_end_and_sysctls_come_and_go():
    before = {**NOTHING, "process": {"7 (sh)": ""}, "sysctl": {"net/ipv4/conf/lab0/mtu": "1"}}
    after = {**NOTHING, "process": {"8 (sh)": ""}, "sysctl": {"net/ipv4/conf/eth1/mtu": "1"}}
    assert footprint.left_behind(before, after) == ["process 8 (sh) is new"]


@pytest.mark.parametrize(
    "name", ["kernel/random/uuid", "kernel/ns_last_pid", "fs/dentry-state", "net/ipv4/route/flush", "vm/stat_refresh"]
)
def test_sysctls_that_change_by_themselves_do_not_count(name):
    assert footprint.VOLATILE_SYSCTLS.match(name)


@pytest.mark.parametrize("name", ["fs/inotify/max_user_instances", "kernel/panic", "net/ipv4/ip_forward"])
def test_settings_count(name):
    assert not footprint.VOLATILE_SYSCTLS.match(name)


def test_a_process_that_names_the_folder_is_found(tmp_path):
    command = ["sh", "-c", "echo started; read line", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        # Until it runs, its command line may be empty: Popen returns a moment before the kernel has set it.
        assert process.stdout
        assert process.stdout.readline() == b"started\n"
        found = footprint.take(tmp_path)["process"]
        process.communicate(b"\n")
    assert any(name.startswith(f"{process.pid} ") for name in found)


def test_own_cgroups_of_both_versions(tmp_path):
    for name in ("memory/jobs/7", "systemd/jobs", "unified/mine"):
        (tmp_path / name).mkdir(parents=True)
    text = "4:memory:/jobs/7\n2:name=systemd:/jobs\n1:cpu:/\n0::/mine\n"
    found = {str(path.relative_to(tmp_path)) for path in footprint.own_cgroups(text, tmp_path)}
    assert found == {"memory/jobs/7", "systemd/jobs", "unified/mine"}
    (tmp_path / "user.slice").mkdir()
    assert list(footprint.own_cgroups("0::/user.slice\n", tmp_path)) == [tmp_path / "user.slice"]


def test_sysctls_of_this_machine_are_read():
    assert "kernel/panic" in footprint.take(Path("/nowhere"))["sysctl"]
