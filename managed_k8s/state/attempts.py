"""Keeping record of work that is done again and again, while it is done."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

from managed_k8s.backup.schedule import Attempts
from managed_k8s.state.history import History
from managed_k8s.state.store import Store


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
