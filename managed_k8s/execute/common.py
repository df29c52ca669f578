"""What the functions that run steps share."""

from __future__ import annotations

from collections.abc import Callable, Collection

from managed_k8s import names
from managed_k8s.errors import Error
from managed_k8s.minions.jobs import Jobs
from managed_k8s.model.cluster import Snapshot

# Runs a step: called with its node, and what it was planned from.
Action = Callable[[str, Snapshot], None]


class StepError(Error):
    """A step failed; the message says why."""


def await_idle(jobs: Jobs, node: str, functions: str = "managed_k8s_*") -> None:
    """Refuse while a job runs on a server that a reconciler, which is gone now, began there.

    functions: which, as a glob. Raises StepError: the step is tried again later.
    """
    running = jobs.run(node, "saltutil.is_running", functions, limit=60)
    if running:
        raise StepError(f"{running[0].get('fun')} is still running there from before; tried again when it ended")


def connected_master(snapshot: Snapshot, otherwise: str, but: Collection[str] = ()) -> str:
    """Return a connected master that has joined, a Ready one if there is, and none of `but`.

    Raises StepError, which says `otherwise`, when there is none.
    """
    minions, ready = snapshot.observed.minions, snapshot.observed.ready or {}
    masters = [name for name, facts in minions.items() if facts.is_member and names.is_master(name)]
    found = sorted({*masters} - {*but})
    if not found:
        raise StepError(otherwise)
    return max(found, key=lambda name: bool(ready.get(name)))
