"""Making a server in a process of its own."""

import sys
import time
from pathlib import Path

import psutil
import pytest

from managed_k8s.openstack.connection import CloudError
from managed_k8s.openstack.provision import salt_cloud as provision
from managed_k8s.state.store import Store

NAME = "demo-worker-1"


@pytest.fixture
def opts(tmp_path):
    return {"conf_file": str(tmp_path / "master")}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path, "demo")


@pytest.fixture
def salt_cloud(tmp_path, monkeypatch):
    """Return a function that sets what runs, a shell script, in place of salt-cloud."""
    program = tmp_path / "program"
    monkeypatch.setattr(sys, "executable", str(program))

    def runs(script: str) -> None:
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return runs


def test_it_is_asked_for_the_server_by_name(opts, store, tmp_path, salt_cloud):
    salt_cloud(f'echo "$@" > {tmp_path}/words')
    provision.run(opts, store, NAME, 10)
    assert (
        tmp_path / "words"
    ).read_text() == f"-m managed_k8s.openstack.provision.salt_cloud {opts['conf_file']} {NAME}\n"


def test_its_last_words_say_why_it_failed(opts, store, salt_cloud):
    salt_cloud("seq 8; echo no quota >&2; exit 1")
    with pytest.raises(CloudError) as error:
        provision.run(opts, store, NAME, 10)
    assert str(error.value) == "5\n6\n7\n8\nno quota"
    assert store.path(f"making/{NAME}.log").stat().st_mode & 0o777 == 0o600


def test_one_without_a_word_names_its_log(opts, store, salt_cloud):
    salt_cloud("exit 3")
    with pytest.raises(CloudError, match=rf"exit code 3; see .*{NAME}\.log"):
        provision.run(opts, store, NAME, 10)


def test_one_that_takes_too_long_is_ended_with_all_that_it_started(opts, store, tmp_path, salt_cloud):
    salt_cloud(f"sleep 60 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(CloudError, match=f"{NAME} was not made within 3 seconds"):
        provision.run(opts, store, NAME, 3)
    child = int(Path(tmp_path, "child").read_text())
    for _ in range(100):
        if not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.05)
    pytest.fail("what it started goes on")
