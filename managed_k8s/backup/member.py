"""Which etcd member a snapshot is taken from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable


class NoMemberError(RuntimeError):
    """No member can give a snapshot; the message says why, of each."""


@dataclasses.dataclass(frozen=True)
class Member:
    """An etcd member as its own server sees it.

    size: of its database, in bytes. problem: why it gives no snapshot now; empty when it can.
    """

    name: str
    leader: bool = False
    revision: int = 0
    size: int = 0
    problem: str = ""


def choose(members: Iterable[Member]) -> Member:
    """Return a healthy member, not the leader if there is a choice, and the one that is least behind.

    Raises NoMemberError.
    """
    every = sorted(members, key=lambda member: member.name)
    healthy = [member for member in every if not member.problem]
    if not healthy:
        why = "; ".join(f"{member.name}: {member.problem}" for member in every) or "no master is connected"
        raise NoMemberError(f"no etcd member can give a snapshot: {why}")
    return max(healthy, key=lambda member: (not member.leader, member.revision))
