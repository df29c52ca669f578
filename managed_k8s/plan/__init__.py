"""From what is and what should be to the next steps: a pure function of both.

What is to go, goes first (scaling.py), beside what heals servers (healing.py); then what makes a cluster of them
(bootstrap.py), and what is rolled through it (rollout.py). Which of the steps start now: startable.py.
"""

from __future__ import annotations

from managed_k8s.model.cluster import Desired, Observed
from managed_k8s.model.steps import Step
from managed_k8s.plan import healing, rollout, scaling
from managed_k8s.plan.bootstrap import Bootstrap


def plan(desired: Desired, observed: Observed) -> list[Step]:
    """Return what is to be done, each step after those it needs; empty when all is as it should be.

    A server without a connected minion has no step yet: waiting() says what it lacks.
    """
    bootstrap, removals = Bootstrap(desired, observed), scaling.steps(desired, observed)
    steps = [*removals, *healing.steps(desired, observed), *bootstrap.infrastructure(), *bootstrap.converges()]
    steps += rollout.renewals(desired, observed)
    steps += [*bootstrap.init(), *bootstrap.access()]
    if bootstrap.will_answer():
        steps += bootstrap.joins(removals)
        control_planes = rollout.control_planes(desired, observed, steps)
        steps += [*control_planes, *bootstrap.cluster_wide(control_planes)]
        steps += rollout.servers(desired, observed, steps)
        steps += [*bootstrap.smoke(steps)]
    return steps


def waiting(desired: Desired, observed: Observed) -> list[str]:
    """Return a sentence for everything that stands in the way and no step of ours removes."""
    return [
        *Bootstrap(desired, observed).sentences(),
        *scaling.sentences(desired, observed),
        *healing.sentences(observed),
        *rollout.sentences(desired, observed),
    ]
