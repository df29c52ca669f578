"""From the facts to what people want to know: what is there, what is wrong, what happens next. A pure function.

Its result is plain data, which `--out=json` prints; screen, diagram and metrics are views of it. Times are seconds
since 1970, `None` is what is not known, and `unknown` says why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from managed_k8s import names
from managed_k8s.kube import node_annotations
from managed_k8s.model.cluster import Desired, Facts, Observed, Snapshot
from managed_k8s.model.steps import Step
from managed_k8s.observe import membership
from managed_k8s.plan import plan, progress, waiting
from managed_k8s.status.facts import KUBERNETES, PLAN, SOURCES, Certificate, World

# What a server is, in a word; views colour by it.
GOOD, BUSY, BAD, ABSENT, UNKNOWN = "good", "busy", "bad", "absent", "unknown"
# A certificate that ends within this many seconds was not renewed as it should have been.
ENDS_SOON = 14 * 86400
# Seconds between sweeps; a reconciler begins within them. After so many without a look, something does not run.
SWEEP, STALE = 60, 900
# Seconds after which a cluster that is as it should be is looked at without an event.
SETTLED = 300

Data = dict[str, Any]


def status(world: World) -> Data:
    """Return what is known of a cluster, as plain data."""
    todo, sentences = planned(world.look)
    nodes = _nodes(world)
    ready = world.look is not None and not todo and not sentences
    data = {
        "cluster": world.cluster,
        "ready": ready,
        "time": world.now,
        "seconds": world.seconds,
        "version": world.version,
        "api": world.api,
        "address": {"public": world.public_address, "virtual": world.virtual_ip, "holders": _holders(world)},
        "nodes": nodes,
        "etcd": _etcd(world),
        "volumes": None if world.volumes is None else [dataclasses.asdict(volume) for volume in world.volumes],
        "backup": dataclasses.asdict(world.backup) | {"problems": list(world.backup.problems)},
        "certificates": [dataclasses.asdict(certificate) for certificate in world.certificates],
        "reconciling": world.working,
        "paused": world.paused,
        "last_look": world.state.get("time"),
        "next": [words(step) for step in todo],
        "waiting": sentences,
        "failed": _failed(world),
        "failures": {name: kept["count"] for name, kept in sorted(world.attempts.items())},
        "unknown": dict(world.unknown),
        "upcoming": _upcoming(world, todo, ready),
    }
    return data | {"wrong": [*_wrong(world, data)]}


def planned(look: Snapshot | None) -> tuple[list[Step], list[str]]:
    """Return the steps and what is waited for, as the reconciler will find them.

    It asks for etcd's members only when that concerns what it does.
    """
    if look is None:
        return [], []
    observed = look.observed
    if not membership.concerns_etcd(observed.fleet):
        observed = dataclasses.replace(observed, fleet=dataclasses.replace(observed.fleet, members=None))
    return plan(look.desired, observed), waiting(look.desired, observed)


def words(step: Step) -> str:
    """Return a step in words."""
    return f"{step.description} (not yet: {step.held})" if step.held else step.description


# The servers


def _nodes(world: World) -> list[Data]:
    before = {row["name"]: row for row in world.state.get("servers", [])}
    rows = _rows(world)
    names = {row["name"] for row in rows}
    strays = [name for name in sorted(world.servers or {}) if name not in names]
    rows += [{"name": name, "server": (world.servers or {})[name]["status"]} for name in strays]
    return [_node(world, row, before.get(row["name"], {}), row["name"] in strays) for row in rows]


def _rows(world: World) -> list[Data]:
    """Return a row a server of the map, as the reconciler sees it or, where it cannot, as far as that is known."""
    if world.look:
        return progress.servers(world.look.desired, world.look.observed)
    revisions = {node.id: "" for node in world.wanted}
    ready = None if world.nodes is None else {name: bool(node["ready"]) for name, node in world.nodes.items()}
    servers = {name: str(server["status"]) for name, server in (world.servers or {}).items()}
    rows = progress.servers(
        Desired(world.cluster, world.wanted, revisions, "", ""), Observed(servers, world.minions or {}, ready=ready)
    )
    return [_without_what_is_unknown(world, row) for row in rows]


def _without_what_is_unknown(world: World, row: Data) -> Data:
    row["converged"] = None
    if world.servers is None:
        row["server"] = None
    if world.minions is None:
        row["minion"] = None
    if world.nodes is None and row["kubernetes"] != progress.NO_NODE and not (world.minions or {}).get(row["name"]):
        row["kubernetes"] = None
    return row


def _node(world: World, row: Mapping[str, Any], before: Mapping[str, Any], stray: bool) -> Data:
    name = row["name"]
    node, server = names.parse(name), (world.servers or {}).get(name, {})
    seen, facts = (world.nodes or {}).get(name, {}), (world.minions or {}).get(name)
    found: Data = {
        "name": name,
        "role": node.role if node else "",
        "server": row["server"],
        "minion": row["minion"] if "minion" in row else None if world.minions is None else _minion(facts),
        "converged": row.get("converged"),
        "kubernetes": row.get("kubernetes", progress.NO_NODE),
        # What a node says of itself is not whether it is Ready.
        "ready": None if world.nodes is None or not node or node.role == names.GATEWAY else bool(seen.get("ready")),
        "version": seen.get("version"),
        "address": server.get("address"),
        "floating_ip": server.get("floating_ip"),
        "cordoned": bool(seen.get("unschedulable")),
        "virtual_ip": facts.virtual_ip if facts else None,
        "member": _member(world, name),
        "volumes": [v.claim or v.name for v in world.volumes or () if v.node == name],
        "doing": [step for step in _running(world) if step["node"] == name],
        "before": {key: before[key] for key in ("server", "minion", "kubernetes", "converged") if key in before},
    }
    notes = [*_notes(world, found, seen, stray)]
    return found | {"notes": notes, "state": _state(world, found, stray)}


def _minion(facts: Facts | None) -> str:
    return "connected" if facts else "silent"


def _member(world: World, name: str) -> str | None:
    """Return what the member of etcd on a server is; None when there is none, or nobody can say."""
    for member in world.members or ():
        if member.node == name and not member.lost:
            return "learner" if member.healthy and not member.voter else "healthy" if member.healthy else "unhealthy"
    return None


def _notes(world: World, found: Data, seen: Mapping[str, Any], stray: bool) -> Iterable[str]:
    if stray:
        yield "not in cluster.map"
    if world.look and found["name"] in world.look.observed.fleet.condemned:
        yield f"is to go: {world.look.observed.fleet.condemned[found['name']]}"
    if found["virtual_ip"] is True:
        yield "has the API's address"
    if found["member"]:
        yield "in etcd" if found["member"] == "healthy" else f"in etcd, {found['member']}"
    if found["cordoned"]:
        who = {
            node_annotations.OPERATOR: "by managed_k8s.drain",
            node_annotations.REMOVAL: "for its removal",
            node_annotations.MAINTENANCE: "for its upgrade or reboot",
        }
        yield f"cordoned {who.get(seen.get('cordoned_by', ''), 'by somebody else')}"


def _state(world: World, found: Data, stray: bool) -> str:
    if found["server"] == "missing":
        return ABSENT
    known = world.look.observed.known if world.look else frozenset()
    gone = found["minion"] == "silent" and found["name"] in known
    off = found["server"] not in (None, "ACTIVE", "BUILD")
    if off or gone or found["kubernetes"] == progress.NOT_READY or found["member"] == "unhealthy":
        return BAD
    unseen = world.nodes is None and found["kubernetes"] == progress.JOINED
    if unseen or None in (found["server"], found["minion"], found["kubernetes"]):
        return UNKNOWN
    joined = found["kubernetes"] in (progress.READY, progress.NO_NODE)
    if stray or found["doing"] or found["cordoned"] or not (found["converged"] and joined):
        return UNKNOWN if found["converged"] is None and not stray else BUSY
    return GOOD


def _running(world: World) -> list[Mapping[str, Any]]:
    # What a reconciler that is gone was at is not being done.
    return list(world.state.get("running", [])) if world.working else []


def _holders(world: World) -> list[str] | None:
    """Return the gateways that have the API's address; None when none of them says."""
    said = {name: facts.virtual_ip for name, facts in (world.minions or {}).items() if facts.virtual_ip is not None}
    return sorted(name for name, holds in said.items() if holds is True) if said else None


def _etcd(world: World) -> Data | None:
    if world.members is None:
        return None
    voters = [member for member in world.members if member.voter]
    healthy = sum(member.healthy for member in voters)
    return {
        "members": [dataclasses.asdict(member) for member in sorted(world.members, key=lambda member: member.node)],
        "voters": len(voters),
        "healthy": healthy,
        "quorum": healthy > len(voters) // 2,
    }


# What is wrong


def _failed(world: World) -> dict[str, str]:
    return {name: f"{kept['count']} times, last: {kept['why']}" for name, kept in sorted(world.attempts.items())}


def _wrong(world: World, data: Data) -> Iterable[str]:
    """Yield a sentence for everything that is not as it should be, beside what is waited for."""
    for source, title in SOURCES.items():
        if source in world.unknown:
            yield f"{title} cannot be {'known' if source == PLAN else 'asked'}: {world.unknown[source]}"
    yield from _wrong_address(world, data["address"]["holders"])
    yield from _wrong_etcd(data["etcd"])
    yield from _wrong_versions(world)
    yield from (
        f"{name}: Kubernetes says that its disk is full (DiskPressure): no pod without a toleration starts there"
        for name, node in sorted((world.nodes or {}).items())
        if node.get("disk_pressure")
    )
    yield from (f"{_in_words(step)}: failed {why}" for step, why in data["failed"].items())
    yield from (f"backups: {problem}" for problem in world.backup.problems)
    yield from world.renewals
    for certificate in world.certificates:
        yield from _wrong_certificate(certificate, world)
    last = world.state.get("time")
    if last is not None and not world.working and world.now - last > STALE:
        minutes = (world.now - last) / 60
        yield (
            f"the reconciler last saw the whole cluster {minutes:.0f} minutes ago: does the Salt master run? "
            "python -m managed_k8s.master status"
        )


def _wrong_address(world: World, holders: list[str] | None) -> Iterable[str]:
    if holders is None or (holders and len(holders) == 1):
        return
    if holders:
        yield f"{' and '.join(holders)} both have {world.virtual_ip}: do they reach each other by VRRP (protocol 112)?"
    elif world.state.get("ready") or world.api or KUBERNETES in world.unknown:
        yield f"no gateway has {world.virtual_ip}: journalctl -u keepalived -u haproxy on the gateways"


def _wrong_etcd(etcd: Data | None) -> Iterable[str]:
    if etcd is None:
        return
    ill = [member for member in etcd["members"] if not member["healthy"]]
    if ill:
        names = ", ".join(member["node"] or f"member {member['id']}" for member in ill)
        lost = "" if etcd["quorum"] else "; the quorum is lost: nothing can be changed in the cluster"
        yield f"etcd: {etcd['healthy']} of {etcd['voters']} members are healthy, not on {names}{lost}"


def _wrong_versions(world: World) -> Iterable[str]:
    found: dict[str, list[str]] = {}
    for name, node in sorted((world.nodes or {}).items()):
        if node.get("version") and node["version"] != world.version:
            found.setdefault(node["version"], []).append(name)
    for version, servers in sorted(found.items()):
        yield f"{_some(servers)}: Kubernetes {version}, and kubernetes.version is {world.version}"


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _wrong_certificate(certificate: Certificate, world: World) -> Iterable[str]:
    if certificate.ends is None:
        # Where nothing answers at all, that is said already.
        if certificate.key != "api" or world.api:
            yield f"certificate of {certificate.name}: {certificate.problem}"
    elif certificate.ends <= world.now:
        yield f"the certificate of {certificate.name} has ended"
    elif certificate.ends - world.now < ENDS_SOON:
        yield f"the certificate of {certificate.name} ends in {(certificate.ends - world.now) / 86400:.1f} days"


# What happens next


def _upcoming(world: World, todo: list[Step], ready: bool) -> list[Data]:
    """Return what will happen: what runs, the steps in their order, then what a clock says, soonest first."""
    return [*timeline(world, todo), *sorted(_by_the_clock(world, ready), key=lambda each: float(each["when"]))]


def timeline(world: World, todo: list[Step]) -> list[Data]:
    """Return what runs, and steps in their order: `what`, `when` (None: that depends), `since` when it runs, `why`."""
    running, left = _running(world), {step.id for step in todo}
    now = [_coming(_in_words(step["id"]), world.now, "it runs", step["since"]) for step in running]
    at_work = {step["id"] for step in running}
    steps = [_step(world, step, left) for step in todo if step.id not in at_work]
    return [*now, *steps]


def _by_the_clock(world: World, ready: bool) -> Iterable[Data]:
    if world.backup.following:
        yield _coming("back etcd, certificates and keys up", world.backup.following, "by backup.schedule")
    if world.backup.drill:
        yield _coming("restore the newest backup in a drill", world.backup.drill, "by backup.drill_schedule")
    if world.state.get("time") and not world.working:
        look = world.state["time"] + SETTLED if ready else world.now + SWEEP
        yield _coming("look whether all is as it should be", max(look, world.now), "or at once when something happens")
    for each in world.certificates:
        if each.renewed and each.renewed > world.now:
            yield _coming(f"renew the certificate of {each.name}", each.renewed, "before it ends")


def _coming(what: str, when: float | None, why: str = "", since: float | None = None) -> Data:
    return {"what": what, "when": when, "why": why, "since": since}


def _step(world: World, step: Step, todo: set[str]) -> Data:
    """Return when a step begins, or what it waits for."""
    until = world.attempts.get(step.id, {}).get("until", 0)
    if world.paused:
        return _coming(step.description, None, world.paused)
    if step.held:
        return _coming(step.description, None, f"not yet: {step.held}")
    before = [_in_words(need) for need in step.needs if need in todo]
    if before:
        return _coming(step.description, None, f"after: {_some(before)}")
    if until > world.now:
        return _coming(step.description, until, f"it failed {world.attempts[step.id]['count']} times")
    if world.working:
        return _coming(step.description, world.now, "the reconciler is at work")
    return _coming(step.description, world.now + SWEEP, "at the next sweep, or at once: salt-run managed_k8s.reconcile")


def _in_words(step: str) -> str:
    """Return a step's id for people: `join:demo-worker-1` is join demo-worker-1."""
    return step.replace(":", " ")


def problems(data: Data) -> list[str]:
    """Return everything that keeps a cluster from being well, for monitoring."""
    return [*data["wrong"], *data["waiting"]]
