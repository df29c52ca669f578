"""What salt-cloud's exit code says: its own is 0 whatever happened."""

import multiprocessing
import time

import pytest
import salt.config
import salt.loader

from managed_k8s import paths


@pytest.fixture
def output(capsys):
    opts = {
        **salt.config.DEFAULT_MINION_OPTS,
        **salt.config.DEFAULT_CLOUD_OPTS,
        "color": False,
        "optimization_order": [0],
    }
    opts |= {"outputter_dirs": [str(paths.root() / "_output")], "output": "servers"}
    return salt.loader.outputters(opts)["servers"]


@pytest.mark.parametrize(
    "data",
    [
        {"demo-worker-1": {"Error": "disk full"}, "demo-worker-2": {"id": "1"}},
        {"openstack": {"openstack": {"demo-worker-1": {"Error": "no"}}}},
        {"openstack": {}, "Not Found": {"demo-worker-1"}},
        {"Errors": {"demo-wroker": "no such profile"}},
    ],
)
def test_a_failure_is_printed_and_ends_the_program(output, data, capsys):
    with pytest.raises(SystemExit) as ended:
        output(data)
    assert ended.value.code == 1
    assert "demo-w" in capsys.readouterr().out


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"demo-worker-1": {"id": "1", "metadata": {"note": "x"}}},
        {"openstack": {"openstack": {"demo-worker-1": {"metadata": {"Error": "a server's own words"}}}}},
        {"demo-worker-1": {"Message": "Already running."}},
    ],
)
def test_all_else_is_only_printed(output, data, capsys):
    output(data)
    assert ("demo-worker-1" in capsys.readouterr().out) == bool(data)


def fail():
    time.sleep(0.2)
    raise SystemExit("demo-worker-1: disk full")


def test_it_waits_for_those_that_make_servers(output):
    process = multiprocessing.get_context("fork").Process(target=fail, name="Process-1")
    process.start()
    with pytest.raises(SystemExit):
        output({"demo-worker-1": {"Provisioning": "VM being provisioned in parallel. PID: 1"}})
