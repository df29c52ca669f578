"""Which etcd member a snapshot is taken from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from managed_k8s.errors import Error

# Revisions that a member may be behind and is not far: seconds of a busy cluster.
_BEHIND = 1000


class NoMemberError(Error):
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


def choose(members: Iterable[Member], before: str = "") -> Member:
    """Return a healthy member, not the leader if there is a choice, and the one that is least behind.

    before: the one of the last backup, preferred unless it is far behind: each member's file has its pages in another
    order, so that a repository finds hardly any of one member's in another's. Raises NoMemberError.
    """
    every = sorted(members, key=lambda member: member.name)
    healthy = [member for member in every if not member.problem]
    if not healthy:
        why = "; ".join(f"{member.name}: {member.problem}" for member in every) or "no master is connected"
        raise NoMemberError(f"no etcd member can give a snapshot: {why}")
    newest = max(member.revision for member in healthy)

    def merits(member: Member) -> tuple[bool, bool, int]:
        again = member.name == before and newest - member.revision <= _BEHIND
        return not member.leader, again, member.revision

    return max(healthy, key=merits)
