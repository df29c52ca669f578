"""Measures what is promised: `make bench`, or `python -m bench [--only NAME ...]`. docs/performance.md says how."""

from __future__ import annotations

import datetime
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console

from bench import report
from bench.page import PARTS, details, page, rows
from bench.setting import BenchError, Setting
from managed_k8s import errors

app = typer.Typer(add_completion=False)


def _known(names: list[str] | None) -> list[str] | None:
    unknown = [name for name in names or () if name not in PARTS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(PARTS)}")
    return names


@app.command()
def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(PARTS)}; all without it.", callback=_known)
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="The cluster; may be left out while there is one.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove a cluster, or servers of it, that are there, to make them anew.")
    ] = False,
) -> None:
    """Measure and print; the exit code is 1 when a promise is not held.

    What is measured to its end takes its place in docs/performance.md.
    """
    chosen = [name for name in PARTS if not only or name in only]
    parts: dict[str, Any] = {}
    setting = Setting(cluster, replace=yes, found=parts)
    try:
        for name in chosen:
            parts[name] = PARTS[name].measure(setting)
    except Exception as error:
        if not (isinstance(error, BenchError) or errors.is_expected(error)):
            raise
        raise SystemExit(f"bench: {error}") from None
    finally:
        held = _show(parts)
        _keep(parts)
    raise SystemExit(0 if held else 1)


def _show(parts: dict[str, Any]) -> bool:
    """Print what was measured; return whether all promises were held."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    lines = rows(parts)
    for content in details(parts):
        console.print(report.details(content))
    if lines:
        console.print(report.terminal("Performance", lines))
    return all(line.held is not False for line in lines)


def _keep(parts: dict[str, Any]) -> None:
    """Put what was measured in the place of what was known of it before."""
    today = {"date": datetime.date.today().isoformat(), "machine": machine()}
    results = report.load() | {name: today | {"figures": figures} for name, figures in parts.items()}
    report.keep(results)
    report.PAGE.write_text(page(results))


def machine() -> str:
    """Return what this machine is."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = psutil.virtual_memory().total / 10**9
    release = platform.release().partition("-")[0]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, Linux {release}"


def _lines(file: str) -> list[str]:
    return Path(file).read_text().splitlines()


if __name__ == "__main__":
    app()
