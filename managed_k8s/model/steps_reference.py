"""Writes docs/steps.md and the table of steps in docs/events.md: `make docs`, or this module by itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from managed_k8s.model.steps import KINDS, NEVER, StepKind

_DOCS = Path(__file__).resolve().parents[2] / "docs"
STEPS, EVENTS = _DOCS / "steps.md", _DOCS / "events.md"
# What is between these lines of the page of events is made here.
_BEGIN, _END = "<!-- begin of what make docs writes -->\n\n", "<!-- end of it -->\n"
_HEAD = """# Steps

What the reconciler does, it does in steps. `salt-run managed_k8s.plan` lists those that are to be
done, each after the ones that it needs. A step's id is its kind and its server, like
`join:demo-worker-1`.

On a server one step runs at a time; the table says which kinds may start while another one still
runs. In the whole cluster one change of the control plane runs at a time. A step that fails is
tried again after 10 seconds, then after twice that, up to every 10 minutes, and others go on. One
that takes a fifth longer than its limit is given up, and its reconciler ends with it.

This page is made from `managed_k8s/model/steps.py` by `make docs`.

| step | of | it is done when | event | limit | changes the control plane | starts beside |
| -- | -- | -- | -- | -- | -- | -- |
"""
_ADVICE = """
## When a step keeps failing

`NODE` is the server's name.

| step | what to do | more |
| -- | -- | -- |
"""


def text() -> str:
    """Return the page of steps."""
    return _HEAD + "".join(map(_row, KINDS.values())) + _ADVICE + "".join(map(_advice, KINDS.values()))


def events(page: str) -> str:
    """Return the page of events with its table of steps made anew. Raises ValueError when it has no place for it."""
    before, rest = page.split(_BEGIN)
    _, after = rest.split(_END)
    table = "| what | subject | when | step |\n| -- | -- | -- | -- |\n" + "".join(map(_event, KINDS.values()))
    return f"{before}{_BEGIN}{table}\n{_END}{after}"


def _row(kind: StepKind) -> str:
    control_plane = "" if kind.control_plane == NEVER else kind.control_plane
    words = [f"`{kind.name}`", _subject(kind), kind.done, f"`{kind.event}`", f"{kind.limit} s", control_plane]
    return _cells([*words, ", ".join(f"`{name}`" for name in kind.beside)])


def _advice(kind: StepKind) -> str:
    words = kind.advice.format(node="NODE").replace("*", r"\*")
    return _cells([f"`{kind.name}`", words, f"[{kind.page.partition('#')[0]}]({kind.page})" if kind.page else ""])


def _event(kind: StepKind) -> str:
    return _cells([f"`{kind.event}`", _subject(kind), kind.done, f"`{kind.name}`"])


def _subject(kind: StepKind) -> str:
    return "cluster" if kind.cluster_wide else "server"


def _cells(words: Iterable[str]) -> str:
    return f"| {' | '.join(words)} |\n"


if __name__ == "__main__":
    STEPS.write_text(text())
    EVENTS.write_text(events(EVENTS.read_text()))
