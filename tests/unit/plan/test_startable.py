"""Which steps start beside those that run."""

import pytest

from managed_k8s.model.steps import (
    ACCESS,
    ADDONS,
    CONVERGE,
    INIT,
    JOIN,
    LEAVE,
    MAINTAIN,
    REMOVE,
    RESOURCES,
    SMOKE,
    Step,
)
from managed_k8s.plan.startable import startable


def test_masters_come_and_go_one_at_a_time():
    running = Step("join:demo-master-2", JOIN, "demo-master-2", "")
    steps = [
        Step("leave:demo-master-3", LEAVE, "demo-master-3", ""),
        Step("remove:demo-master-1", REMOVE, "demo-master-1", ""),
        Step("remove:demo-worker-1", REMOVE, "demo-worker-1", ""),
    ]
    assert [s.id for s in startable(steps, [running])] == ["remove:demo-worker-1"]
    assert [s.id for s in startable(steps, [])] == [
        "leave:demo-master-3", "remove:demo-worker-1",
    ]  # fmt: skip


def test_a_running_step_counts_as_open_though_its_effect_is_seen():
    running = Step("join:demo-master-2", JOIN, "demo-master-2", "")
    steps = [
        Step("join:demo-master-3", JOIN, "demo-master-3", ""),
        Step("converge:demo-master-2", CONVERGE, "demo-master-2", ""),
        Step("join:demo-worker-1", JOIN, "demo-worker-1", ""),
        Step("smoke", SMOKE, "", "", needs=("join:demo-master-2",)),
    ]
    found = startable(steps, [running])
    assert [step.id for step in found] == ["join:demo-worker-1"]


@pytest.mark.parametrize("open_too", [False, True])
def test_the_next_node_waits_for_a_step_that_is_about_to_end(open_too):
    running = Step("maintain:demo-master-3", MAINTAIN, "demo-master-3", "")
    following = Step("maintain:demo-worker-1", MAINTAIN, "demo-worker-1", "")
    other = Step("join:demo-worker-2", JOIN, "demo-worker-2", "")
    steps = [following, other, *([running] if open_too else [])]
    found = startable(steps, [running])
    # Beside one that the plan still has, what the plan lets begin does.
    assert found == ([following, other] if open_too else [other])


@pytest.mark.parametrize("kind", [INIT, ACCESS, JOIN, RESOURCES, CONVERGE])
def test_kubeadm_runs_beside_the_end_of_converging_and_nothing_else_does(kind):
    converging = Step("converge:demo-master-1", CONVERGE, "demo-master-1", "")
    other = Step(f"{kind}:demo-master-1", kind, "demo-master-1", "")
    found = startable([other], [converging])
    assert (found == [other]) is (kind in (INIT, ACCESS, JOIN))
    assert startable([converging], [other]) == []


def test_what_failed_a_moment_ago_is_left_alone():
    steps = [Step("addons", ADDONS, "", ""), Step("converge:demo-worker-1", CONVERGE, "demo-worker-1", "")]
    assert startable(steps, [], {"addons"}) == steps[1:]
