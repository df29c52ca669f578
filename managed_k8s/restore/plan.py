"""From what is left of a control plane to how it is brought back: pure functions of both.

Nothing is given up that is still there: as long as one master has etcd's data, that is what the control plane goes on
with, and a backup is used only where no data is left, or where an operator names one.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from managed_k8s import names
from managed_k8s.backup.record import Record
from managed_k8s.errors import Error
from managed_k8s.model import rollout as rollout_model
from managed_k8s.names import GATEWAY, MASTER, WORKER, Node

# What all control planes of a cluster share; the rest is made from it. Also in _utils/managed_k8s_common.py.
AUTHORITIES = (
    "ca.crt", "ca.key", "etcd/ca.crt", "etcd/ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub",
)  # fmt: skip
# Kinds of steps, in the order in which they are done.
MAKE, FETCH, FENCE, CERTIFICATES, STOP, DATABASE, CLEAN, RESET, RESTART, JOIN = (
    "make", "fetch", "fence", "certificates", "stop", "database", "clean", "reset", "restart", "join",
)  # fmt: skip


# Revisions that nobody writes between two backups; a restore adds more (_modules/managed_k8s_restore.py).
_BUMP = 1_000_000_000


class RestoreError(Error):
    """A cluster cannot be brought back, or need not be; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Left:
    """What a connected server of the cluster still is.

    kubeadm: as in its facts. database: whether there is etcd data. quorum: whether its etcd has a leader. revision: of
    its data, None when its etcd does not run. index: how far its etcd is. certificates: what is wrong with them.
    """

    kubeadm: str = "none"
    database: bool = False
    quorum: bool = False
    revision: int | None = None
    index: int = 0
    certificates: tuple[str, ...] = ()

    @property
    def is_member(self) -> bool:
        """Tell whether kubeadm finished on it."""
        return self.kubeadm in ("initialised", "joined")


@dataclasses.dataclass(frozen=True)
class Situation:
    """What there is.

    nodes: every server in cluster.map. servers: name -> Nova's id, of those that are there. left: connected servers.
    kubelets: node -> version of the kubelet that was seen on it last.
    """

    nodes: Sequence[Node]
    servers: Mapping[str, str]
    left: Mapping[str, Left]
    kubelets: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def masters(self) -> list[str]:
        """Return every master that is in the map, there, or connected; in order."""
        found = {node for node in self.nodes if node.role == MASTER}
        found |= {node for name in (*self.servers, *self.left) if (node := names.parse(name)) and node.role == MASTER}
        return [node.id for node in sorted(found)]

    def connected(self, role: str) -> list[str]:
        """Return the connected servers of a role."""
        nodes = sorted(node for name in self.left if (node := names.parse(name)))
        return [node.id for node in nodes if node.role == role]

    def missing(self) -> list[str]:
        """Return the servers of the map that are not there."""
        return [node.id for node in sorted(self.nodes) if node.id not in self.servers]

    def damaged(self) -> list[str]:
        """Return the masters whose certificates are not in order."""
        return [name for name in self.connected(MASTER) if self.left[name].is_member and self.left[name].certificates]

    @property
    def quorum(self) -> bool:
        """Tell whether etcd has its quorum."""
        return any(left.quorum for left in self.left.values())

    @property
    def revision(self) -> int | None:
        """The newest revision that a connected master has."""
        return max((left.revision for left in self.left.values() if left.revision is not None), default=None)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a cluster is brought back.

    id: of this restore; its folder on the masters is called so. base: the master that gets the database; empty when
    etcd is well. own: whether that is the one it has. backup: where database or authorities come from; empty when
    nothing does. fresh: whether the base has no control plane yet. make: servers to be made before anything else. gone:
    servers that are made at the end. fence: masters that do not answer -> id of their server: they are powered off,
    removed and made anew. certificates: masters whose certificates are made anew. reset: masters that leave what they
    are in, and join the restored one. kubelets: of which workers are started anew. newer: workers whose kubelet is
    newer than the backup -> id of their server: they are made anew at the end, as none is made older where it is.
    """

    id: str
    base: str = ""
    own: bool = False
    backup: str = ""
    fresh: bool = False
    make: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    fence: Mapping[str, str] = dataclasses.field(default_factory=dict)
    certificates: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()
    kubelets: tuple[str, ...] = ()
    newer: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, kept: Mapping[str, Any]) -> Plan:
        """Return what a store kept."""
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in kept.items()}
        return cls(**values)

    def steps(self) -> dict[str, str]:
        """Return what is done, in order: kind -> words."""
        targets = sorted({*([self.base] if self.base else []), *self.certificates})
        with_backup = f"send what is needed of {self.backup} to {_list(targets)}, and check it there"
        data = "the database that it has" if self.own else f"the database of {self.backup}"
        begin = "run kubeadm" if self.fresh else "start the control plane"
        words = {
            MAKE: f"make and converge {_list(self.make)}" if self.make else "",
            FETCH: with_backup if self.backup else "",
            FENCE: f"power off for good {_list(self.fence)}: silent, and two databases would be two clusters",
            CERTIFICATES: f"make the certificates of {_list(self.certificates)} anew, from the cluster's authorities",
            STOP: f"stop the control plane of {_list(self.reset)}; its data is set aside",
            DATABASE: f"{begin} on {self.base} with {data}, as etcd's only member; what was there is set aside",
            CLEAN: "delete Nodes, leases and attachments of what is gone",
            RESET: f"reset {_list(self.reset)}",
            RESTART: f"restart the kubelets of {_list(self.kubelets)}; their pods run on",
            JOIN: f"make, converge and join {_list(self._coming())}; add-ons, smoke test",
        }
        due = {
            MAKE: self.make, FETCH: self.backup, FENCE: self.fence, CERTIFICATES: self.certificates, STOP: self.reset,
            DATABASE: self.base, CLEAN: self.base, RESET: self.reset, RESTART: self.kubelets, JOIN: True,
        }  # fmt: skip
        if not self._coming():
            words[JOIN] = "converge what has to be; add-ons, smoke test"
        if self.newer:
            words[JOIN] += f"; make {_list(self.newer)} anew, whose kubelets are newer, one after the other"
        return {kind: words[kind] for kind in due if due[kind]}

    def _coming(self) -> list[str]:
        return sorted({*self.gone, *self.fence, *self.reset, *(name for name in self.make if name != self.base)})


def needs_backup(situation: Situation, asked: bool) -> bool:
    """Tell whether a backup is needed to bring a cluster back: of its database, or of its authorities alone."""
    if asked or situation.quorum:
        return asked or bool(situation.damaged())
    base = _base(situation, own=True)
    return base in situation.damaged() or not situation.left.get(base, Left()).database


def make(situation: Situation, record: Record | None, asked: bool, begun: float) -> Plan:
    """Return how to bring a cluster back, with the least loss.

    record: the backup that was asked for, or the newest good one; None when none is needed or there is none. asked:
    whether to go back to it though there is something newer. begun: seconds since 1970. Raises RestoreError when there
    is nothing to bring back, or nothing to do it from.
    """
    damaged = tuple(situation.damaged())
    called = datetime.datetime.fromtimestamp(begun, datetime.UTC).strftime("restore-%Y%m%dT%H%M%S")
    if situation.quorum and not asked:
        if not damaged:
            raise RestoreError(
                "nothing is lost: etcd has its quorum, and every master's certificates are in order. To go back to an "
                "earlier state name one: backup=NAME (salt-run managed_k8s.backups) or target_time=2026-11-24T13:45"
            )
        return Plan(called, backup=_name(record, "certificates come from a backup"), certificates=damaged)
    base = _base(situation, own=not asked)
    left = situation.left.get(base, Left())
    own = not asked and left.database
    fresh = not left.is_member
    if own and fresh:
        raise RestoreError(f"{base} has etcd data, but kubeadm did not end there: name a backup to go back to: backup=")
    damaged = () if fresh or base not in damaged else (base,)
    backup = "" if own and not damaged else _name(record, "no master has what is needed")
    missing = situation.missing()
    workers = [name for name in situation.connected(WORKER) if situation.left[name].is_member]
    others = [name for name in situation.masters() if name != base]
    unmade = base not in situation.left or not situation.connected(GATEWAY)
    return Plan(
        called,
        base=base,
        own=own,
        backup=backup,
        fresh=fresh,
        make=tuple(missing) if unmade else (),
        gone=() if unmade else tuple(missing),
        fence={name: situation.servers[name] for name in others if _is_silent(situation, name)},
        certificates=damaged,
        reset=tuple(name for name in others if name in situation.left and situation.left[name].kubeadm != "none"),
        kubelets=() if own else tuple(workers),
        newer={} if own or record is None else _newer(situation, record, workers),
    )


def _newer(situation: Situation, record: Record, workers: Iterable[str]) -> dict[str, str]:
    seen = situation.kubelets
    found = (name for name in workers if name in seen and rollout_model.is_older(record.kubernetes, seen[name]))
    return {name: situation.servers[name] for name in found}


def _is_silent(situation: Situation, name: str) -> bool:
    return name in situation.servers and name not in situation.left


def _name(record: Record | None, why: str) -> str:
    if record is None:
        raise RestoreError(f"{why}, and there is no good backup; see: salt-run managed_k8s.backups")
    return record.name


def _base(situation: Situation, own: bool) -> str:
    """Return the master to go on with: of those with data the one that has most, else one that is one already."""
    masters = situation.masters()
    if not masters:
        raise RestoreError("cluster.map has no master")
    wanted = {node.id for node in situation.nodes}

    def worth(name: str) -> tuple[Any, ...]:
        left = situation.left.get(name)
        if left is None:
            # One that is made anew, rather than one whose server is there and silent.
            return (False, name in wanted and name not in situation.servers)
        return (True, own and left.database, left.index if own else 0, left.is_member, name in wanted)

    best = max(worth(name) for name in masters)
    chosen = next(name for name in masters if worth(name) == best)
    if chosen not in situation.left and _is_silent(situation, chosen):
        raise RestoreError(
            "no master answers to Salt, but servers of theirs are there, and etcd's data may be on them: "
            f"{_list(name for name in masters if name in situation.servers)}. See why they are silent (salt-run "
            "managed_k8s.access for ssh). One that is beyond help: openstack server delete, then this again"
        )
    return chosen


# What it costs


def losses(plan: Plan, record: Record | None, revision: int | None, now: float) -> list[str]:
    """Return in words what is gone afterwards.

    record: the backup. revision: the newest that is known. now: seconds since 1970.
    """
    if not plan.base:
        return ["nothing of what is in the cluster"]
    found = []
    if plan.own:
        found.append(f"nothing that reached {plan.base} (revision {revision or 'unknown'}): at most the last moments")
    elif record is not None:
        ago = datetime.timedelta(seconds=round(now - record.time))
        text = f"everything since {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(record.time))}, {ago} ago"
        if revision is None:
            text += f" (revision {record.revision}; nobody knows how many came after it)"
        elif revision - record.revision < _BUMP:
            text += f": {revision - record.revision} revisions, {record.revision} to {revision}"
        else:
            text += f" (revision {record.revision} of before another restore, now {revision})"
        found.append(text)
    if away := [*plan.fence, *plan.newer]:
        found.append(f"the servers {_list(away)} with what is on their disks")
    return found


def choose(records: Sequence[Record], name: str | None, moment: float | None) -> Record | None:
    """Return the backup that is meant: that one, or the newest good one (not after a moment).

    records: newest first. moment: seconds since 1970. Raises RestoreError when what was asked for is not there.
    """
    near = _list(one.name for one in records[:5]) or "none"
    if name and moment is not None:
        raise RestoreError("backup= and target_time= exclude each other: the one names a backup, the other finds one")
    if name:
        named = next((one for one in records if one.name == name), None)
        if named is None:
            raise RestoreError(f"backup: there is no {name}; the newest are {near}; all: salt-run managed_k8s.backups")
        if not named.good:
            raise RestoreError(f"backup: {name} is not good: {named.problem}; choose another, of {near}")
        return named
    good = [one for one in records if one.good and (moment is None or one.time <= moment)]
    if moment is not None and not good:
        raise RestoreError(f"target_time: there is no good backup before it; the newest are {near}")
    return good[0] if good else None


def moment(text: object) -> float | None:
    """Return a time, in seconds since 1970, that somebody wrote; UTC unless it says otherwise. Raises RestoreError."""
    if text is None:
        return None
    try:
        found = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        raise RestoreError(f"target_time: {text!r} is no time; write it like 2026-11-24T13:45 (UTC)") from None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


def _list(names: Any) -> str:
    return ", ".join(sorted(names))
