import json

import pytest

from lab import host


@pytest.fixture
def kernel(monkeypatch, tmp_path):
    values = tmp_path / "sys"
    values.mkdir()
    for name in (*host.RAISED, *host.CHANGED_BY_SERVERS):
        (values / name).write_text("128\n")
    monkeypatch.setattr(host, "_sysctl", lambda name: values / name)
    return values


def test_sysctls_are_raised_and_set_back(kernel, tmp_path):
    saved = tmp_path / "sysctls.json"
    host.set_sysctls(saved)
    assert (kernel / "fs.inotify.max_user_instances").read_text() == "4096"
    (kernel / "kernel.panic").write_text("10\n")  # as kubelet does
    host.restore_sysctls(saved)
    assert {path.read_text().strip() for path in kernel.iterdir()} == {"128"}
    assert not saved.exists()


def test_a_second_start_does_not_take_our_own_values_for_the_hosts(kernel, tmp_path):
    saved = tmp_path / "sysctls.json"
    host.set_sysctls(saved)
    host.set_sysctls(saved)
    assert json.loads(saved.read_text())["fs.inotify.max_user_instances"] == "128"


def test_a_higher_value_stays(kernel, tmp_path):
    (kernel / "fs.inotify.max_user_instances").write_text("65536\n")
    host.set_sysctls(tmp_path / "sysctls.json")
    assert (kernel / "fs.inotify.max_user_instances").read_text() == "65536\n"


def test_nothing_is_restored_where_nothing_was_saved(kernel, tmp_path):
    host.restore_sysctls(tmp_path / "sysctls.json")
