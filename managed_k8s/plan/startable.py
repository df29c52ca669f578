"""Which steps of a plan may be started beside those that run: pure functions of both."""

from __future__ import annotations

from collections.abc import Collection

from managed_k8s import names
from managed_k8s.model.steps import ALWAYS, KINDS, ON_A_MASTER, Step, runnable


def startable(steps: list[Step], running: list[Step], resting: Collection[str] = ()) -> list[Step]:
    """Return the steps to start now.

    One step at a time on a node, but for kinds that may run beside it; and one change of the control plane at a time.
    A step that runs counts as open though its effect may be seen already. What goes from node to node waits for a step
    of its kind that is about to end, which the plan does not know of any more.

    resting: ids of steps that failed and are left alone for a while.
    """
    at_work = {step.node: step.kind for step in running if step.node}
    ids, planned = {step.id for step in running}, {step.id for step in steps}
    rolling = any(KINDS[step.kind].rolling and step.id not in planned for step in running)
    control_plane = any(map(_changes_control_plane, running))
    chosen = []
    for step in runnable([*steps, *running]):
        kind = KINDS[step.kind]
        if (
            step.id in ids
            or step.id in resting
            or (step.node in at_work and at_work[step.node] not in kind.beside)
            or (rolling and kind.rolling)
        ):
            continue
        if _changes_control_plane(step):
            if control_plane:
                continue
            control_plane = True
        if step.node:
            at_work[step.node] = step.kind
        chosen.append(step)
    return chosen


def _changes_control_plane(step: Step) -> bool:
    when = KINDS[step.kind].control_plane
    return when == ALWAYS or (when == ON_A_MASTER and names.is_master(step.node))
