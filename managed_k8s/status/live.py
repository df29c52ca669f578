"""What people see while a cluster is made: a picture of what the reconciler leaves in the store."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from managed_k8s.plan import progress

_DONE, _RUNS, _FAILED, _OPEN = "[green]✓[/]", "[cyan]●[/]", "[red]✗[/]", "[dim]·[/]"
# Lines that are there whatever the number of servers.
_FRAME = 24
# Most sentences that are shown of one sort.
_SENTENCES = 4
_EVENTS = 5
# What is to be read afterwards, too.
_BAD = ("failed", "look_failed", "refused")


@dataclasses.dataclass(frozen=True)
class Scene:
    """What there is to draw.

    state: what the reconciler's last look saw; empty before the first. attempts: steps that failed, by id.
    entries: the newest of the history, oldest first. working: whether a reconciler is at work. now: seconds since 1970.
    """

    cluster: str
    state: Mapping[str, Any]
    attempts: Mapping[str, Mapping[str, Any]]
    entries: Sequence[Mapping[str, Any]]
    working: bool
    now: float


def draw(scene: Scene, height: int = 50) -> RenderableType:
    """Return the picture of a scene.

    height: lines of the terminal; of a cluster that has more servers those are shown that need something.
    """
    return Group(*_drawn(scene, max(height - _FRAME, 3)))


def watch(
    console: Console,
    entries: Iterable[Mapping[str, Any] | None],
    scene: Callable[[Iterable[Mapping[str, Any]]], Scene],
) -> None:
    """Draw what the reconciler does as long as there are entries; what went wrong is printed above, and stays.

    entries: of the history as they come, None when nothing happens for a moment. scene: gives what to draw, from the
    newest of them.
    """
    recent: collections.deque[Mapping[str, Any]] = collections.deque(maxlen=20)
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        for entry in entries:
            if entry is None:
                live.update(draw(scene(recent), console.height), refresh=True)
                continue
            recent.append(entry)
            if entry["what"] in _BAD:
                live.console.print(f"[red]{escape(line(entry))}[/]", soft_wrap=True)
        live.update(draw(scene(recent), console.height), refresh=True)


def _drawn(scene: Scene, rows: int) -> Iterator[RenderableType]:
    state = scene.state
    if not state:
        yield Text.from_markup(f"[bold]{escape(scene.cluster)}[/]  the first look has not ended yet")
    else:
        yield _head(scene)
        yield Text()
        yield _servers(scene, rows)
        yield Text()
        yield _whole(scene)
        yield from _sentences("Waiting for", state["waiting"])
    if not scene.working and not state.get("ready"):
        yield Text("No reconciler is at work; the next sweep, within a minute, starts one.", style="yellow")
    if scene.entries:
        yield Text()
    # Whole sentences are in managed_k8s.history.
    yield from (
        Text(_short(line(entry), 200), style="dim", no_wrap=True, overflow="ellipsis")
        for entry in scene.entries[-_EVENTS:]
    )


def _head(scene: Scene) -> RenderableType:
    done, every = progress.count(scene.state["servers"], scene.state["parts"])
    head = Table.grid(padding=(0, 2))
    head.add_row(
        f"[bold]{escape(scene.cluster)}[/]",
        ProgressBar(total=every, completed=done, width=30),
        f"{done} of {every} steps",
        duration((scene.state["until"] or scene.now) - scene.state["since"]),
        "[green]ready[/]" if scene.state["ready"] else "",
    )
    return head


def _servers(scene: Scene, most: int) -> RenderableType:
    table = Table(
        "", "server", "minion", "converged", "Kubernetes", "now", box=None, pad_edge=False, padding=(0, 2, 0, 0)
    )
    shown, hidden = _chosen(scene, most)
    for row in shown:
        table.add_row(
            escape(row["name"]),
            _coloured(row["server"], good=row["server"] == "ACTIVE"),
            _coloured(row["minion"], good=row["minion"] == "connected"),
            _DONE if row["converged"] else _OPEN,
            _coloured(row["kubernetes"], good=row["kubernetes"] in (progress.READY, progress.NO_NODE)),
            _activity(scene, row["name"]),
        )
    if hidden:
        table.add_row(f"[dim]and {hidden} more[/]")
    return table


def _chosen(scene: Scene, most: int) -> tuple[list[Mapping[str, Any]], int]:
    """Return the rows to show, in their order, and how many are left out: first those that lack nothing."""
    rows = scene.state["servers"]
    if len(rows) <= most:
        return rows, 0
    busy = {step["node"] for step in _running(scene)}
    order = sorted(range(len(rows)), key=lambda n: (rows[n]["name"] not in busy, _is_fine(rows[n]), n))
    return [rows[n] for n in sorted(order[: most - 1])], len(rows) - most + 1


def _is_fine(row: Mapping[str, Any]) -> bool:
    return row["converged"] and row["kubernetes"] in (progress.READY, progress.NO_NODE)


def _coloured(word: str, good: bool) -> str:
    return escape(word) if good else f"[yellow]{escape(word)}[/]"


def _running(scene: Scene) -> Sequence[Mapping[str, Any]]:
    # What a reconciler that is gone was at is not being done.
    return scene.state["running"] if scene.working else []


def _activity(scene: Scene, subject: str) -> str:
    """Return what runs on a server, and what failed there."""
    words = [
        f"{_RUNS} {escape(step['kind'])} {duration(scene.now - step['since'])}"
        for step in _running(scene)
        if step["node"] == subject
    ]
    return "; ".join([*words, *_failures(scene, subject)])


def _failures(scene: Scene, subject: str) -> list[str]:
    """Return what failed and is not tried again just now, of a server or of a kind of step."""
    ids = {step["id"] for step in _running(scene)}
    return [
        f"{_FAILED} {escape(kind)} failed ({kept['count']})"
        + (f", again in {duration(kept['until'] - scene.now)}" if kept["until"] > scene.now else "")
        for name, kept in sorted(scene.attempts.items())
        for kind, _, node in [name.partition(":")]
        if name not in ids and subject == (node or kind)
    ]


def _whole(scene: Scene) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for part in scene.state["parts"]:
        since = next((step["since"] for step in _running(scene) if step["kind"] == part["kind"]), None)
        mark = _DONE if part["done"] else _OPEN if since is None else _RUNS
        table.add_row(mark, escape(part["name"]), _detail(scene, part, since))
    return table


def _detail(scene: Scene, part: Mapping[str, Any], since: float | None) -> str:
    if since is not None:
        said = [entry for entry in scene.entries if entry["what"] == "progress" and entry["subject"] == part["kind"]]
        words = escape(_short(said[-1]["reason"])) if said else ""
        return f"{duration(scene.now - since)}  [dim]{words}[/]"
    held = next((step["held"] for step in scene.state["steps"] if step["kind"] == part["kind"]), "")
    return "; ".join(_failures(scene, part["kind"])) or f"[dim]{escape(held)}[/]"


def _sentences(title: str, sentences: Sequence[str]) -> Iterable[RenderableType]:
    if not sentences:
        return
    yield Text(f"{title}:")
    yield from (Text(f"  - {_short(sentence, 160)}", overflow="fold") for sentence in sentences[:_SENTENCES])
    if len(sentences) > _SENTENCES:
        yield Text(f"  and {len(sentences) - _SENTENCES} more: salt-run managed_k8s.status", style="dim")


def _short(words: str, length: int = 60) -> str:
    first = words.strip().partition("\n")[0]
    return first if len(first) <= length else first[: length - 1] + "…"


def duration(seconds: float) -> str:
    """Return seconds as people say them: 9 s, 1 min 12 s, 2 h 5 min."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def line(entry: Mapping[str, Any]) -> str:
    """Return an entry of the history for people."""
    clock = time.strftime("%H:%M:%S", time.localtime(entry["time"]))
    took = f" ({entry['seconds']} s)" if "seconds" in entry else ""
    return f"{clock}  {entry['subject']}: {entry['what'].replace('_', ' ')}{took}  {entry['reason']}"
