"""Keeping record of work that is done again and again, while it is done."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from managed_k8s.state.history import History
from managed_k8s.state.store import Store

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
