"""What the lab says while it works: which step, how far, how long."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Step:
    """One running step; tell it how far it is."""

    def __init__(self, progress: Progress, title: str) -> None:
        self._progress = progress
        self._task = progress.add_task(title, total=None, detail="")

    def update(self, detail: str = "", done: float | None = None, total: float | None = None) -> None:
        """Show a few words of detail, and how much of the whole is done."""
        self._progress.update(self._task, detail=detail, completed=done, total=total)


class Report:
    """Shows running steps with a spinner on a terminal; prints a line per finished step anywhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[detail]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._lock = threading.Lock()
        self._running = 0

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Run the body as one step; steps in several threads run side by side.

        title: an imperative phrase ("Install OpenStack").
        """
        start = time.monotonic()
        with self._lock:
            if self._running == 0:
                self._progress.start()
            self._running += 1
        if not self.console.is_terminal:
            self.console.print(f"… {title}")
        step, mark = Step(self._progress, title), "[red]✗"
        try:
            yield step
            mark = "[green]✓"
        finally:
            with self._lock:
                self._progress.remove_task(step._task)
                self._running -= 1
                if self._running == 0:
                    self._progress.stop()
            self.console.print(f"{mark}[/] {title} [dim]{time.monotonic() - start:.1f} s[/]")

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(text)
