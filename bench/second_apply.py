"""How long a state.apply takes on servers that are as they should be, and that it changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from bench.report import Details, Figures, Row
from bench.setting import BenchError, Setting

MOST_SECONDS = 15


def measure(setting: Setting) -> Figures:
    """Apply all states on all servers at once. Raises BenchError when a minion does not answer or a state failed."""
    names = [node.id for node in setting.cluster.nodes]
    begun = time.monotonic()
    answers = setting.salt(names, "state.apply")
    seconds = time.monotonic() - begun
    return {"servers": len(names), "seconds": round(seconds, 1), **count(answers)}


def count(answers: Mapping[str, Any]) -> dict[str, int]:
    """Return how many states there were and how many changed something.

    answers: minion -> what state.apply returned. Raises BenchError naming the minions on which it did not run.
    """
    refused = {name: answer for name, answer in answers.items() if not isinstance(answer, Mapping)}
    if refused:
        raise BenchError(f"state.apply did not run: {refused}")
    states = [state for answer in answers.values() for state in answer.values()]
    return {"states": len(states), "changed": sum(bool(state["changes"]) for state in states)}


def rows(figures: Figures) -> list[Row]:
    """Return the lines of the main table."""
    seconds, changed = figures["seconds"], figures["changed"]
    return [
        Row(
            f"second state.apply on {figures['servers']} servers, {figures['states']} states",
            f"{seconds:.1f} s, {changed} changed",
            f"{MOST_SECONDS} s, 0 changed",
            seconds <= MOST_SECONDS and not changed,
        )
    ]


def details(_: Figures) -> list[Details]:
    """Return no further tables."""
    return []
