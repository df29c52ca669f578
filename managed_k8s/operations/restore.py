"""What an operator can ask for about restores, as plain functions; the runner is their face."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from managed_k8s.backup.record import Record
from managed_k8s.cluster import Cluster
from managed_k8s.minions.jobs import SaltJobs
from managed_k8s.openstack import transfer
from managed_k8s.operations import access, clusters
from managed_k8s.restore import plan as planning
from managed_k8s.restore.plan import Plan, Situation
from managed_k8s.restore.service import Restore
from managed_k8s.state.history import History
from managed_k8s.state.store import Store

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A restore that was not agreed to yet.

    steps: what is done. losses: what is gone then. resumed: whether it was begun before.
    """

    plan: Plan
    steps: list[str]
    losses: list[str]
    resumed: bool


class NarratedHistory(History):
    """A history that somebody reads along.

    say: gets a line for each entry.
    """

    def __init__(self, store: Store, opts: Mapping[str, Any], say: Say) -> None:
        super().__init__(store, opts)
        self._say = say

    def add(self, subject: str, what: str, reason: str, **more: Any) -> None:
        """Note and announce that something happened, and say it."""
        super().add(subject, what, reason, **more)
        if subject != "restore":
            self._say(f"  {subject}: {what}: {reason}")


@contextlib.contextmanager
def exclusive(opts: Mapping[str, Any], cluster: str | None, say: Say) -> Iterator[Restore]:
    """Give what brings a cluster back, while nobody else changes anything about it. Raises RequestError."""
    found = Cluster(opts, clusters.choose(opts, cluster))
    history = NarratedHistory(found.store, opts, say)
    with clusters.exclusive(opts, found, say):
        yield Restore(
            found,
            SaltJobs(opts),
            lambda server, folder, called: transfer.send(
                access.ssh_configuration(opts, found.name), server, folder, called
            ),
            lambda: clusters.infra(opts, found.name, False),
            history,
            say,
        )


def propose(restore: Restore, backup: str | None, target_time: object) -> Proposal:
    """Return how to bring a cluster back; one that was begun is gone on with, unless another backup is named.

    target_time: a time, UTC, as ISO 8601 writes it. Raises RestoreError.
    """
    moment = planning.moment(target_time)
    asked = backup is not None or moment is not None
    situation = restore.look()
    begun = None if asked else restore.begun()
    if begun and _goes_on(*begun, situation):
        return Proposal(begun[0], list(begun[0].steps().values()), ["what the first run said"], resumed=True)
    record: Record | None = None
    # What is not lost does not depend on the repository.
    if planning.needs_backup(situation, asked):
        record = planning.choose(restore.cluster.backups.records(), backup, moment)
    now = time.time()
    plan = planning.make(situation, record, asked, now)
    return Proposal(
        plan, list(plan.steps().values()), planning.losses(plan, record, situation.revision, now), resumed=False
    )


def _goes_on(plan: Plan, only_joining: bool, situation: Situation) -> bool:
    """Tell whether a restore that was begun can be gone on with; else it is begun anew, from what there is now."""
    if only_joining:
        return situation.quorum and not situation.damaged()
    return not plan.base or plan.base in situation.left or bool(plan.make)
