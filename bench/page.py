"""The parts of the bench, and docs/performance.md of what they found: `python -m bench.page` writes it anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from bench import (
    all_gone,
    backing_up,
    calls,
    creation,
    failover,
    healing,
    planning,
    quorum_lost,
    report,
    second_apply,
    upgrading,
)
from bench.report import Details, Figures, Row
from bench.setting import Setting


class Part(Protocol):
    """A module that measures."""

    def measure(self, setting: Setting, /) -> Figures:
        """Measure; what is found is plain data. Raises BenchError."""

    def rows(self, figures: Figures, /) -> list[Row]:
        """Return the lines of the main table."""

    def details(self, figures: Figures, /) -> list[Details]:
        """Return other tables."""


# In the order of a whole run: the others need the cluster that the first one makes, and the last one changes it.
PARTS: dict[str, Part] = {
    "creation": creation,
    "apply": second_apply,
    "failover": failover,
    "calls": calls,
    "backup": backing_up,
    "quorum": quorum_lost,
    "rebuild": all_gone,
    "plan": planning,
    "healing": healing,
    "upgrade": upgrading,
}


def rows(parts: Mapping[str, Figures]) -> list[Row]:
    """Return the lines of the main table."""
    return [row for name, figures in parts.items() for row in PARTS[name].rows(figures)]


def details(parts: Mapping[str, Figures]) -> list[Details]:
    """Return the other tables."""
    return [table for name, figures in parts.items() for table in PARTS[name].details(figures)]


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Return docs/performance.md.

    results: name of a part -> `date`, `machine`, `figures`.
    """
    ordered = {name: results[name] for name in PARTS if name in results}
    measured = [
        (part["date"], part["machine"], row)
        for name, part in ordered.items()
        for row in PARTS[name].rows(part["figures"])
    ]
    return report.text(measured, details({name: part["figures"] for name, part in ordered.items()}))


if __name__ == "__main__":
    report.PAGE.write_text(page(report.load()))
