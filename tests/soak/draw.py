"""Which faults a soak is made of: drawn by chance, the same for the same seed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Collection, Mapping

from managed_k8s.names import GATEWAY, MASTER, WORKER
from tests.support.faults import OUTAGE, REPLACED, REPLACED_LATE, REVIVED

ANY = (GATEWAY, MASTER, WORKER)
NODES = (MASTER, WORKER)
# What happens beside a fault, once it is noticed.
RESTART, OUTAGE_OF_CLOUD = "the Salt master is restarted meanwhile", "the cloud answers 503 for two minutes meanwhile"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of fault.

    strike: key of tests.support.faults.STRIKES. roles: that it may hit. limit: seconds until it is healed. victims: how
    many servers at once. meanwhile: what happens beside it. ends: what happens to its victims last.
    """

    name: str
    strike: str
    roles: tuple[str, ...]
    limit: float
    victims: int = 1
    meanwhile: str = ""
    ends: str = "healed"


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault of a kind, and whom it hits."""

    kind: Kind
    victims: tuple[str, ...]

    def __str__(self) -> str:
        """Say it."""
        return f"{' and '.join(self.victims)}: {self.kind.name}"


KINDS = (
    Kind("power loss", "power-loss", ANY, REVIVED),
    Kind("freeze", "freeze", ANY, REVIVED),
    Kind("network cut", "cut", ANY, REPLACED),
    Kind("kubelet stopped", "stop-kubelet", NODES, REVIVED),
    Kind("disk full", "fill-disk", ANY, REPLACED_LATE),
    Kind("etcd data corrupt", "corrupt-etcd", (MASTER,), REPLACED_LATE),
    Kind("server deleted", "delete", NODES, REPLACED, ends="joined"),
    Kind("gateway deleted", "delete", (GATEWAY,), REPLACED, ends="converged"),
    Kind("power loss of two at once", "power-loss", (WORKER,), REVIVED, victims=2),
    Kind(f"power loss, {RESTART}", "power-loss", ANY, REPLACED, meanwhile=RESTART),
    Kind(f"power loss, {OUTAGE_OF_CLOUD}", "power-loss", ANY, REVIVED + OUTAGE, meanwhile=OUTAGE_OF_CLOUD),
)


def draw(seed: int, count: int, names: Mapping[str, Collection[str]]) -> list[Fault]:
    """Return so many faults.

    names: role -> servers. A fault that takes etcd's quorum or the last gateway by itself is none of them. Raises
    ValueError when no kind is left.
    """
    chance = random.Random(seed)
    possible = {
        kind: roles for kind in KINDS if (roles := [r for r in kind.roles if _can_lose(r, len(names[r]), kind.victims)])
    }
    if not possible:
        raise ValueError("a cluster of these servers survives no fault")
    found: list[Fault] = []
    while len(found) < count:
        # Each kind once before any comes again: few faults, and still of many kinds.
        for kind in chance.sample(list(possible), len(possible)):
            role = chance.choice(possible[kind])
            found.append(Fault(kind, tuple(sorted(chance.sample(sorted(names[role]), kind.victims)))))
    return found[:count]


def _can_lose(role: str, there: int, victims: int) -> bool:
    """Tell whether a cluster that has so many servers of a role works, and heals, without some of them."""
    if role == MASTER:
        return there - victims > there // 2
    return there > victims if role == GATEWAY else there >= victims
