"""Which servers come and go, and who is in etcd: plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping


@dataclasses.dataclass(frozen=True)
class Member:
    """A member of etcd.

    id: hexadecimal. node: the server at its address; without one, the server it was on. voter: whether it counts for
    the quorum. lost: whether there is no server at its address any more.
    """

    id: str
    node: str
    healthy: bool = True
    voter: bool = True
    lost: bool = False


@dataclasses.dataclass(frozen=True)
class Fleet:
    """Which servers come and go, beside what cluster.map says.

    asked: servers that an operator, or a replacement, wants made. lost: those that were complete once and are gone,
    whether or not they are in the map.
    unfinished: those whose making was begun and did not end. busy: those that somebody makes or removes right now.
    contradicted: those that OpenStack does not list though their minion answers.
    condemned: servers that are to go -> why. unwanted: those that are not in the map, and nobody said may go.
    remains: Kubernetes nodes whose server is gone. drained: nodes that nothing runs on any more, for their removal.
    cordoned: nodes that were cordoned for a removal. members: of etcd; None when nobody could be asked.
    paused: why nothing is to be changed; empty when it may.
    """

    asked: frozenset[str] = frozenset()
    lost: frozenset[str] = frozenset()
    unfinished: frozenset[str] = frozenset()
    busy: frozenset[str] = frozenset()
    contradicted: frozenset[str] = frozenset()
    condemned: Mapping[str, str] = dataclasses.field(default_factory=dict)
    unwanted: frozenset[str] = frozenset()
    remains: frozenset[str] = frozenset()
    drained: frozenset[str] = frozenset()
    cordoned: frozenset[str] = frozenset()
    members: tuple[Member, ...] | None = None
    paused: str = ""


def has_quorum(voters: Collection[Member], of: int | None = None) -> bool:
    """Tell whether etcd has its quorum: most of its voters are healthy.

    of: how many voters there are, when those given are not all.
    """
    return sum(member.healthy for member in voters) > (len(voters) if of is None else of) // 2
