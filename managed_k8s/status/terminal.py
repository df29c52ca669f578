"""The status on one screen: a view of what status/status.py says, for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from managed_k8s.backup.record import Record as Backup
from managed_k8s.kube.smoke.check import Check
from managed_k8s.status.history_view import BAD as BAD_ENDS
from managed_k8s.status.history_view import RUNNING
from managed_k8s.status.live import duration
from managed_k8s.status.status import ABSENT, BAD, BUSY, GOOD, UNKNOWN
from managed_k8s.volumes.record import Record as VolumeBackup

Data = Mapping[str, Any]
# Lines of what is no terminal.
_ALL = 100_000

_MARKS = {GOOD: "[green]✓[/]", BUSY: "[cyan]●[/]", BAD: "[red]✗[/]", ABSENT: "[red]-[/]", UNKNOWN: "[yellow]?[/]"}
# Lines that are there whatever there is to say, and the least servers that are shown.
_FRAME, _LEAST = 12, 5
# Most sentences of one sort; all are in the data.
_SENTENCES, _UPCOMING = 8, 6
_DAY = 86400


def draw(data: Data, height: int = 50) -> RenderableType:
    """Return the screen.

    data: as status() returns it. height: lines of the terminal; of a large cluster those servers are shown that need
    something.
    """
    return Group(*_drawn(data, max(height - _FRAME - _spoken(data), _LEAST)))


def _spoken(data: Data) -> int:
    """Return how many lines the sentences take, if none of them is long."""
    parts = ((data["wrong"], _SENTENCES), (data["waiting"], _SENTENCES), (data["upcoming"], _UPCOMING))
    return sum(min(len(part), most) + 3 for part, most in parts if part)


def _drawn(data: Data, rows: int) -> Iterator[RenderableType]:
    yield _whole(data)
    yield Text()
    yield _servers(data, rows)
    if any(node["before"] and None in (node["server"], node["minion"], node["kubernetes"]) for node in data["nodes"]):
        yield Text(f"What has a ? is not known now; it was so {_ago(data, data['last_look'])}.", style="yellow")
    yield from _sentences("Wrong", data["wrong"], "red")
    yield from _sentences("Waiting for", data["waiting"], "yellow")
    yield from _upcoming(data)
    yield Text()
    yield Text.from_markup(_verdict(data), overflow="fold")


def _verdict(data: Data) -> str:
    if not data["ready"]:
        return f"[bold]{escape(data['cluster'])} is not ready.[/]"
    beside = " Beside that, something is wrong: see above." if data["wrong"] else ""
    return f"[bold]{escape(data['cluster'])} is as it should be.[/]{beside}"


# The cluster as a whole


def _whole(data: Data) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    looked = f"{time.strftime('%H:%M:%S', time.localtime(data['time']))}, in {data['seconds']} s"
    kubernetes = f"Kubernetes {escape(data['version'])}  [dim]seen at {looked}[/]{_paused(data)}"
    table.add_row(f"[bold]{escape(data['cluster'])}[/]", kubernetes)
    table.add_row("API:", _api(data))
    table.add_row("etcd:", _etcd(data))
    table.add_row("backups:", _backups(data))
    table.add_row("certificates:", _certificates(data))
    table.add_row("volumes:", _volumes(data))
    return table


def _paused(data: Data) -> str:
    return f"  [yellow]{escape(data['paused'])}[/]" if data["paused"] else ""


def _api(data: Data) -> str:
    address = data["address"]
    answers = "answers" if data["api"] else "[red]does not answer[/]"
    at = f" at {escape(address['public'])}" if address["public"] else ""
    holders = address["holders"]
    if holders is None:
        held = "it is not known which gateway has it"
    else:
        held = f"{escape(' and '.join(holders))} has it" if holders else "[red]no gateway has it[/]"
    return f"{answers}{at}; inside {escape(address['virtual'])}, {held}"


def _etcd(data: Data) -> str:
    etcd = data["etcd"]
    if etcd is None:
        return _unknown(data, "etcd", "there is none yet")
    style = "green" if etcd["healthy"] == len(etcd["members"]) else "yellow" if etcd["quorum"] else "red"
    names = ", ".join(_member(member) for member in etcd["members"])
    return f"[{style}]{etcd['healthy']} of {etcd['voters']} members healthy[/]: {names}"


def _member(member: Data) -> str:
    name = escape(member["node"] or member["id"])
    words = [] if member["healthy"] else ["not healthy"]
    words += [] if member["voter"] else ["learner"]
    words += ["without a server"] if member["lost"] else []
    return f"{name} ({', '.join(words)})" if words else name


def _backups(data: Data) -> str:
    backup = data["backup"]
    if backup["newest"] is None:
        return "none yet" if not backup["problems"] else "[red]none[/]"
    problems = f", [red]{len(backup['problems'])} wrong[/]" if backup["problems"] else ""
    return f"newest {_ago(data, backup['time'])} ({escape(backup['newest'])}){problems}"


def _certificates(data: Data) -> str:
    words = [
        f"{escape(each['name'])} {_days(each['ends'] - data['time'])}"
        if each["ends"] is not None
        else f"{escape(each['name'])} [yellow]unknown[/]"
        for each in data["certificates"]
    ]
    return ", ".join(words) or "none yet"


def _days(seconds: float) -> str:
    days = int(seconds / _DAY)
    if seconds <= 0:
        return "[red]has ended[/]"
    return f"[red]{days} days[/]" if days < 14 else f"{days} days" if days < 730 else f"{days // 365} years"


def _volumes(data: Data) -> str:
    volumes = data["volumes"]
    if volumes is None:
        return _unknown(data, "volumes", _unknown(data, "kubernetes", "none yet"))
    attached = sum(bool(volume["node"]) for volume in volumes)
    return f"{len(volumes)}, {attached} of them attached" if volumes else "none"


def _unknown(data: Data, source: str, otherwise: str) -> str:
    return f"[yellow]unknown: {escape(data['unknown'][source])}[/]" if source in data["unknown"] else otherwise


# The servers


def _servers(data: Data, most: int) -> RenderableType:
    # A name is to be copied whole; words beside it may wrap.
    name, kubernetes = Column("name", no_wrap=True), Column("Kubernetes", no_wrap=True)
    heads = ("", name, "server", "minion", "converged", kubernetes, "version", "")
    table = Table(*heads, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    nodes, hidden = _chosen(data["nodes"], most)
    for node in nodes:
        cells = [_cell(node, key) for key in ("server", "minion", "converged", "kubernetes")]
        version = escape(node["version"] or "-")
        table.add_row(_MARKS[node["state"]], escape(node["name"]), *cells, version, _now(data, node))
    if hidden:
        good = sum(node["state"] == GOOD for node in data["nodes"])
        return Group(table, f"   [dim]and {hidden} more; {good} of {len(data['nodes'])} are well[/]")
    return table


def _chosen(nodes: Sequence[Data], most: int) -> tuple[list[Data], int]:
    """Return the servers to show, in their order, and how many are left out: first those that are well."""
    if len(nodes) <= most:
        return list(nodes), 0
    order = sorted(range(len(nodes)), key=lambda n: (nodes[n]["state"] == GOOD, n))
    return [nodes[n] for n in sorted(order[: most - 1])], len(nodes) - most + 1


def _cell(node: Data, key: str) -> str:
    value = node[key]
    if value is None:
        last = node["before"].get(key)
        return "[yellow]?[/]" if last is None else f"[yellow]{escape(_word(last))}?[/]"
    good = value in ("ACTIVE", "connected", "Ready", "-", True)
    return escape(_word(value)) if good else f"[yellow]{escape(_word(value))}[/]"


def _word(value: str | bool) -> str:
    return value if isinstance(value, str) else "yes" if value else "no"


def _now(data: Data, node: Data) -> str:
    doing = [f"[cyan]{escape(step['kind'])} for {duration(data['time'] - step['since'])}[/]" for step in node["doing"]]
    return ", ".join([*doing, *map(escape, node["notes"])])


# Sentences


def _sentences(title: str, sentences: Sequence[str], style: str) -> Iterator[RenderableType]:
    if not sentences:
        return
    yield Text()
    yield Text(f"{title}:", style=style)
    for sentence in sentences[:_SENTENCES]:
        yield Text(f"  - {sentence.strip().partition(chr(10))[0]}", overflow="fold")
    if len(sentences) > _SENTENCES:
        yield Text(f"  and {len(sentences) - _SENTENCES} more: salt-run --out=json managed_k8s.status", style="dim")


def _upcoming(data: Data) -> Iterator[RenderableType]:
    upcoming = data["upcoming"]
    if not upcoming:
        return
    yield Text()
    yield Text("Next:")
    table = Table.grid(padding=(0, 2))
    for each in upcoming[:_UPCOMING]:
        table.add_row(f"  {_when(data, each)}", escape(each["what"]), f"[dim]{escape(each['why'])}[/]")
    yield table
    if len(upcoming) > _UPCOMING:
        yield Text(f"  and {len(upcoming) - _UPCOMING} more: salt-run managed_k8s.plan", style="dim")


def _when(data: Data, each: Data) -> str:
    if each["since"] is not None:
        return f"for {duration(data['time'] - each['since'])} now"
    if each["when"] is None:
        return "later"
    seconds = each["when"] - data["time"]
    if seconds <= 0:
        return "now"
    return f"in {int(seconds / _DAY)} days" if seconds > 2 * _DAY else f"in {duration(seconds)}"


def _ago(data: Data, then: float | None) -> str:
    return "some time" if then is None else f"{duration(data['time'] - then)} ago"


# The plan and the past


def plan(data: Data) -> Iterator[RenderableType]:
    """Yield the plan, as operations.inspect.plan() returns it."""
    if data["paused"]:
        yield Text(f"Nothing is done: {data['paused']}", style="yellow")
    if data["upcoming"]:
        yield Text("Next:")
        table = Table.grid(padding=(0, 2))
        for number, each in enumerate(data["upcoming"], 1):
            table.add_row(f"  {number}.", escape(each["what"]), _when(data, each), f"[dim]{escape(each['why'])}[/]")
        yield table
    if data["waiting"]:
        yield Text("Waiting for:")
        yield from (Text(f"  - {sentence}", overflow="fold") for sentence in data["waiting"])
    if data["ready"]:
        yield Text(f"Nothing: {data['cluster']} is as it should be.")


def history(data: Data) -> Iterator[RenderableType]:
    """Yield the past, as operations.inspect.history() returns it."""
    if not data["done"]:
        yield Text("Nothing.")
        return
    where = Column("where", no_wrap=True)
    table = Table("when", "what", where, "took", "why", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in data["done"]:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["time"]))
        style = "red" if row["what"] in BAD_ENDS else "cyan" if row["what"] == RUNNING else ""
        took = "" if row["seconds"] is None else duration(row["seconds"])
        what, why = Text(row["what"], style=style), Text(row["why"], overflow="fold")
        table.add_row(when, what, Text(row["subject"]), took, why)
    yield table
    shown = "" if len(data["done"]) == data["count"] else f"; the last {len(data['done'])} are shown"
    work = duration(data["seconds"])
    yield Text(f"{data['count']} things, {data['failed']} went wrong, {work} of work{shown}.", style="dim")


# What single verbs say


def fitted(data: Data, console: Console) -> RenderableType:
    """Return the status, of a height that the console has; all of it where there is no terminal."""
    return draw(data, console.height if console.is_terminal else _ALL)


def reconciled(data: Data) -> Iterator[RenderableType]:
    """Yield how a reconciliation ended, as operations.reconcile.reconcile() returns it."""
    if data["busy"]:
        yield "A reconciler is at work and looks again; follow it: salt-run managed_k8s.wait"
        return
    for title, sentences in (("Left to do:", data["steps"]), ("Waiting for:", data["waiting"])):
        if sentences:
            yield title
            yield from _bullets(sentences)
    yield f"{data['cluster']} is {'as it should be' if data['ready'] else 'not ready'}."


def upgrade(data: Data) -> Iterator[RenderableType]:
    """Yield what becomes of an upgrade, as operations.upgrade.upgrade() returns it."""
    name, way = data["cluster"], f"from {data['from']} to {data['to']}"
    if not data["begun"]:
        yield f"Nothing speaks against upgrading {name} {way}."
        return
    yield f"{name} is upgraded {way}; follow it: salt-run managed_k8s.wait {name}"
    yield f"The backup from before: {data['backup']}; the way back: salt-run managed_k8s.rollback {name}"
    if data["written"] != data["to"]:
        yield f"Write kubernetes.version: {data['to']} into pillar/clusters/{name}.sls, for whoever reads it."


def restore(
    cluster: str, plan_id: str, resumed: bool, steps: Sequence[str], losses: Sequence[str]
) -> Iterator[RenderableType]:
    """Yield what a restore does, and what is lost by it."""
    yield f"{plan_id} of {cluster} was begun, and is gone on with:" if resumed else "This is done:"
    yield from (f"  {number}. {escape(step)}" for number, step in enumerate(steps, 1))
    yield "This will be lost:"
    yield from _bullets(losses)


def smoke_check(check: Check) -> str:
    """Return a check of the smoke test as a line."""
    return f"{'ok     ' if check.ok else 'FAILED '} {check.name} ({check.seconds:.1f} s) {check.detail}"


def backup(made: Backup) -> str:
    """Return a backup that was made as a line."""
    return f"{made.name}: revision {made.revision}, {made.count} keys, {_megabytes(made.size)}, from {made.member}"


def backups(found: Sequence[Backup]) -> Table:
    """Return a table of backups."""
    table = Table("backup", "size", "revision", "keys", "Kubernetes", "etcd", "from", "why", "verified", box=None)
    for one in found:
        numbers = (_megabytes(one.size), str(one.revision), str(one.count), one.kubernetes, one.etcd)
        verified = escape(one.problem) or ("restored in a drill" if one.proven else "when made")
        table.add_row(one.name, *numbers, one.member, escape(one.reason), verified)
    return table


def volumes_backed_up(made: Sequence[VolumeBackup]) -> Iterator[RenderableType]:
    """Yield which volumes were backed up."""
    yield from (escape(f"{one.claim.path}: {one.name}, {one.size} GiB") for one in made)
    yield f"{len(made)} volumes were backed up." if made else "No claim has the label managed-k8s/backup=true."


def volume_backups(found: Sequence[VolumeBackup]) -> Table:
    """Return a table of volumes' backups."""
    table = Table("claim", "backup", "size", "why", "Cinder backup", "problem", box=None)
    for one in found:
        problem = escape(one.problem or "none")
        table.add_row(one.claim.path, one.name, f"{one.size} GiB", escape(one.reason), one.id, problem)
    return table


def _bullets(sentences: Iterable[str]) -> Iterator[str]:
    return (f"  - {escape(sentence)}" for sentence in sentences)


def _megabytes(count: float) -> str:
    return f"{count / 1e6:.1f} MB"
