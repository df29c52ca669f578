"""A newer tree beside a running cluster: after `git pull` the Salt master is started from it."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.timeout(1800)

# What serves, and since when: a restart of any of it is seen. Containers by their ids.
_RUNNING = """
systemctl show --property=Id,MainPID,ActiveEnterTimestampMonotonic haproxy keepalived containerd kubelet
if command -v ctr > /dev/null; then ctr --namespace k8s.io tasks list --quiet | sort; fi
"""


@pytest.fixture
def newer(demo, tmp_path):
    """A copy of the checkout, to be changed; the Salt master goes back to the other one at the end."""
    copy = demo.checkout.copy(tmp_path / "checkout")
    yield copy
    demo.checkout.start_master()
    demo.checkout.run("salt-run", "managed_k8s.wait", demo.name, timeout=900)


def change(checkout, file):
    """Change a file of the tree, but nothing that it does."""
    with (checkout.root / file).open("a") as code:
        code.write("\n# Newer.\n")


def running(demo):
    """Return what runs on each server."""
    found = demo.checkout.salt("demo-*", "cmd.run", _RUNNING)
    assert set(found) == set(demo.servers)
    assert all("ActiveEnterTimestampMonotonic=" in text for text in found.values())
    return found


def steps(demo):
    """Return the kinds of all steps that were ever begun."""
    return [entry["step"].partition(":")[0] for entry in demo.history() if entry["what"] == "begun"]


def test_newer_code_of_the_salt_master_changes_nothing_on_servers(demo, newer):
    before, done = running(demo), steps(demo)
    change(newer, "managed_k8s/names.py")
    newer.start_master()
    found = newer.data("reconcile", demo.name)
    assert (found["steps"], found["waiting"]) == ([], [])
    assert steps(demo) == done
    assert running(demo) == before


def test_newer_code_of_servers_reaches_them_and_restarts_nothing(demo, newer):
    before, done = running(demo), steps(demo)
    file = min((newer.root / "_modules").glob("managed_k8s_*.py")).name
    change(newer, f"_modules/{file}")
    newer.start_master()
    newer.run("salt-run", "managed_k8s.wait", demo.name, timeout=900)
    assert sorted(steps(demo)[len(done) :]) == ["converge"] * len(demo.servers)
    said = newer.salt("demo-*", "cmd.run", f"tail -n 1 $(find / -xdev -name {file} -path '*extmods*')")
    assert set(said.values()) == {"# Newer."}
    assert running(demo) == before
