"""Figures as tables: on the terminal, and as docs/performance.md. bench/page.py puts them together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

DOCS = Path(__file__).resolve().parent.parent / "docs"
FIGURES, PAGE = DOCS / "performance.json", DOCS / "performance.md"
TEMPLATE = Path(__file__).with_name("performance.md")

# What a part found: plain data, kept as JSON.
Figures = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the main table.

    limit: what is promised, in words. held: whether it was kept; None without a limit.
    """

    what: str
    measured: str
    limit: str = ""
    held: bool | None = None


@dataclasses.dataclass(frozen=True)
class Details:
    """A table of its own. header: of the columns after the first, which has none."""

    title: str
    header: Sequence[str]
    lines: Sequence[Sequence[str]]


def terminal(title: str, rows: Iterable[Row]) -> Table:
    """Return the main table for a terminal."""
    table = Table("", "measured", "limit", title=title)
    for row in rows:
        table.add_row(row.what, row.measured, row.limit, style="bold red" if row.held is False else None)
    return table


def details(content: Details) -> Table:
    """Return another table for a terminal."""
    table = Table("", *content.header, title=content.title)
    for line in content.lines:
        table.add_row(*line)
    return table


def markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    every = [["", *header], ["---"] * (len(header) + 1), *lines]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in every)


def text(rows: Iterable[tuple[str, str, Row]], more: Iterable[Details]) -> str:
    """Return docs/performance.md.

    rows: each with the day on which it was measured, and the machine. Machines have numbers where there are several.
    """
    rows = list(rows)
    machines = list(dict.fromkeys(machine for _, machine, _ in rows))
    numbers = {machine: f" ({number})" if len(machines) > 1 else "" for number, machine in enumerate(machines, 1)}
    lines = [(row.what, _marked(row), row.limit, f"{day}{numbers[machine]}") for day, machine, row in rows]
    tables = markdown(("measured", "limit", "on"), lines)
    for table in more:
        tables += f"\n## {table.title}\n{markdown(table.header, table.lines)}"
    named = "; ".join(f"{numbers[machine]} {machine}".strip() for machine in machines)
    return TEMPLATE.read_text().format(machines=named, tables=tables)


def _marked(row: Row) -> str:
    return f"**{row.measured}: not held**" if row.held is False else row.measured


def load() -> dict[str, Any]:
    """Return what each part found the last time it was measured: name -> `date`, `machine`, `figures`."""
    content: dict[str, Any] = json.loads(FIGURES.read_text())
    return content


def keep(results: Mapping[str, Any]) -> None:
    """Write what load() returns."""
    FIGURES.write_text(json.dumps(results, indent=1) + "\n")
