"""Keeping record of what is tried again and again: work that goes by a clock, and steps that failed."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from managed_k8s.model.steps import Step
from managed_k8s.state.history import History
from managed_k8s.state.store import Store

# Seconds that a step which failed once, twice, ... is left alone.
_FIRST_PAUSE, _LONGEST_PAUSE = 10, 600
_INTERRUPTED = "it was interrupted"


@dataclasses.dataclass(frozen=True)
class Attempts:
    """What is on record about work that is done again and again; times are seconds since 1970.

    begun: the last attempt. done: when the last one that went well began. failures: how many failed since. why: the
    last failure in words.
    """

    begun: float | None = None
    done: float | None = None
    failures: int = 0
    why: str = ""

    @classmethod
    def of(cls, kept: Mapping[str, Any] | None) -> Attempts:
        """Return what a store kept."""
        return cls(**kept) if kept else cls()

    def beginning(self, now: float) -> Attempts:
        """Return the record while an attempt is under way: one that is killed counts as failed."""
        return dataclasses.replace(self, begun=now, failures=self.failures + 1, why=_INTERRUPTED)

    def seen(self, busy: bool) -> Attempts:
        """Return the record as it is to be judged; busy: whether an attempt is under way, which did not fail yet."""
        if busy and self.why == _INTERRUPTED:
            return dataclasses.replace(self, failures=self.failures - 1, why="it is being tried again")
        return self

    def succeeded(self) -> Attempts:
        """Return the record after it went well."""
        return Attempts(begun=self.begun, done=self.begun)

    def failed(self, why: str) -> Attempts:
        """Return the record after it failed."""
        return dataclasses.replace(self, why=why)


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
