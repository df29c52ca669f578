"""How programs are run on a server, and what is told of those that fail."""

import pytest
from salt.exceptions import CommandExecutionError

from tests.support.minion_modules import ROOT, load_module


@pytest.fixture
def common(tmp_path, monkeypatch):
    found = load_module("managed_k8s_files", {}).common
    monkeypatch.setattr(found, "VOLATILE", tmp_path / "run")
    return found


def test_what_a_program_says_is_told_without_secrets(common):
    with pytest.raises(CommandExecutionError, match=r"sh.*failed after 0 s:\ntoken \(secret\)"):
        common.run("/bin/sh", "-c", "echo token abcdef.0123456789abcdef; exit 3", limit=10)
    with pytest.raises(CommandExecutionError, match="did not end within"):
        common.run("/bin/sleep", "5", limit=0.1)
    with pytest.raises(CommandExecutionError, match=r"no-such-program is not installed here; state\.apply installs it"):
        common.run("/no-such-program", "-x", limit=10)


def test_an_exit_code_may_be_none_of_our_business(common):
    assert common.run("/bin/sh", "-c", "echo said; exit 3", limit=10, check=False) == "said\n"


def test_a_secret_in_arguments_is_not_told_either(common):
    with pytest.raises(CommandExecutionError) as raised:
        common.run("/bin/false", "abcdef.0123456789abcdef", limit=10)
    assert str(raised.value).startswith("false (secret) failed")


def test_etcdctl_asks_the_member_of_this_server_by_its_own_certificate(common, monkeypatch):
    ran = []
    monkeypatch.setattr(common, "run", lambda *words, **options: ran.append((words, options)))
    common.etcdctl("member", "list")
    common.etcdctl("snapshot", "save", "etcd.db", timeout=None, limit=1800)
    (words, options), (saving, longer) = ran
    assert words[:2] == ("/usr/local/bin/etcdctl", "--endpoints=https://127.0.0.1:2379")
    assert words[-3:] == ("--command-timeout=5s", "member", "list")
    assert options == {"limit": 60, "check": True}
    # A snapshot takes as long as it takes.
    assert not [word for word in saving if "timeout" in word]
    assert longer["limit"] == 1800


def test_waiting_ends_when_it_is_so_or_time_is_up(common, monkeypatch):
    monkeypatch.setattr(common.time, "sleep", lambda seconds: None)
    answers = iter([False, False, True])
    assert common.until(lambda: next(answers), 60)
    assert not common.until(lambda: False, 0)


def test_a_private_file_is_gone_afterwards_whatever_happens(common):
    keeping = common.private("join.yaml", "secret")
    path = keeping.__enter__()
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("secret", 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    keeping.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert not path.exists()


def test_a_file_without_content_is_as_one_that_is_not_there(common, tmp_path):
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "full").write_text("x\n")
    assert [common.read(tmp_path / name) for name in ("empty", "full", "none")] == [None, "x", None]


def test_servers_of_a_cluster_run_linux(common, monkeypatch):
    assert common.is_supported() is True
    monkeypatch.setattr(common.sys, "platform", "win32")
    supported, reason = common.is_supported()
    assert not supported
    assert "Linux" in reason


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "_modules").glob("*.py")))
def test_each_module_takes_it_anew_when_salt_loads_the_module_again(common, name):
    """Python would keep the old one in the memory of a minion that runs."""
    common.PROGRAMS = "what was there before"
    module = load_module(name, {})
    assert str(module.common.PROGRAMS) == "/usr/local/bin"
    assert module.__virtual__() is True
