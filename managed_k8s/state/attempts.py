"""Keeping record of what is tried again and again: work that goes by a clock, and steps that failed."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

from managed_k8s.backup.schedule import Attempts
from managed_k8s.model.steps import Step
from managed_k8s.state.history import History
from managed_k8s.state.store import Store

# Seconds that a step which failed once, twice, ... is left alone.
_FIRST_PAUSE, _LONGEST_PAUSE = 10, 600


@contextlib.contextmanager
def attempting(store: Store, history: History, file: str, subject: str, done: str) -> Iterator[Callable[..., None]]:
    """Keep record of an attempt in a file of the store, and announce how it ended.

    subject, done: what the event is about and says when it went well; `failed` otherwise. What this gives takes the
    event's reason and whatever else it holds.
    """
    begun = time.time()
    attempts = Attempts.of(store.read(file)).beginning(begun)
    store.write(file, dataclasses.asdict(attempts))
    said: dict[str, Any] = {"reason": ""}

    def announce(reason: str, **more: Any) -> None:
        said.update(more, reason=reason)

    try:
        yield announce
    except Exception as error:
        why = str(error).strip() or type(error).__name__
        store.write(file, dataclasses.asdict(attempts.failed(why)))
        history.add(subject, "failed", why, attempt=done)
        raise
    store.write(file, dataclasses.asdict(attempts.succeeded()))
    history.add(subject, done, **said, seconds=round(time.time() - begun, 1))


class StepAttempts:
    """How often steps failed, kept over runs, and until when they are left alone."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept: dict[str, dict[str, Any]] = store.read("attempts.json") or {}

    def failed(self, step: Step, why: str) -> None:
        """Note a failure."""
        count = self._kept.get(step.id, {}).get("count", 0) + 1
        pause = min(_FIRST_PAUSE * 2 ** (count - 1), _LONGEST_PAUSE)
        self._kept[step.id] = {"count": count, "until": time.time() + pause, "why": why}
        self._store.write("attempts.json", self._kept)

    def succeeded(self, step: Step) -> None:
        """Forget a step's failures."""
        if self._kept.pop(step.id, None):
            self._store.write("attempts.json", self._kept)

    def forget(self) -> None:
        """Forget all of them: what failed was done by itself, or is not wanted any more."""
        if self._kept:
            self._kept.clear()
            self._store.write("attempts.json", self._kept)

    def resting(self, now: float) -> frozenset[str]:
        """Return the ids of the steps that are left alone, as they failed a while ago."""
        return frozenset(step for step, kept in self._kept.items() if kept["until"] > now)
