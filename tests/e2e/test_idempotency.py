"""A cluster that is as it should be stays so, whatever is asked for again; the commands are those of the README."""

from __future__ import annotations

import pytest

from tests.support.checkout import difference, objects

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(autouse=True)
def nothing_happens(demo, cloud):
    """No test here makes, changes or removes anything in the project, or gives the reconciler anything to do."""
    before, steps = objects(cloud), [entry for entry in demo.history() if "step" in entry]
    yield
    assert difference(before, objects(cloud)) == []
    assert [entry for entry in demo.history() if "step" in entry] == steps
    assert demo.verb("plan")["steps"] == []


def changes(answers):
    """Return the states that changed something, or failed, like `demo-worker-1: Install containerd`."""
    for answer in answers.values():
        assert isinstance(answer, dict), answer
    return [
        f"{minion}: {state['__id__']}: {state['changes'] or state['comment']}"
        for minion, answer in answers.items()
        for state in answer.values()
        if state["changes"] or state["result"] is not True
    ]


def test_states_applied_again_change_nothing(demo):
    answers = demo.checkout.salt("demo-*", "state.apply")
    assert set(answers) == set(demo.servers)
    assert all(len(answer) > 10 for answer in answers.values())
    assert changes(answers) == []


def test_a_change_on_a_server_is_seen_and_set_right(demo):
    demo.checkout.salt("demo-worker-1", "cmd.run", "echo '# spoilt' >> /etc/modules-load.d/managed-k8s.conf")
    (change,) = changes(demo.checkout.salt("demo-worker-1", "state.apply"))
    assert "Load kernel modules at boot" in change
    assert "spoilt" in change
    assert changes(demo.checkout.salt("demo-worker-1", "state.apply")) == []


def test_the_map_applied_again_makes_nothing(demo):
    said = demo.checkout.run("salt-cloud", "-y", "-m", "cluster.map").stdout
    assert said.count("Already running.") == len(demo.servers)


def test_the_infrastructure_is_all_there(demo):
    assert demo.verb("infra", "test=True")["changes"] == []
    assert demo.verb("infra")["changes"] == []


def test_reconciling_again_finds_nothing_to_do(demo):
    found = demo.verb("reconcile")
    assert (found["steps"], found["waiting"]) == ([], [])


@pytest.mark.parametrize(
    "command",
    ["salt-cloud -m cluster.map", "salt '*' state.apply", "salt-run managed_k8s.status"],
)
def test_the_three_commands_work_as_written(demo, command):
    demo.checkout.run("sh", "-c", command, stdin="")
