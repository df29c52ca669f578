"""Somebody who asks the same question all the time, while other things happen, and remembers the answers."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import requests

# Seconds for which the API may be away while its servers restart one after the other, on a busy machine.
GAP = 20


class Asking:
    """Asks in a thread of its own, for as long as the block lasts; what raises has no answer.

    interval: seconds between two questions.
    """

    def __init__(self, question: Callable[[], Any], interval: float = 0.5) -> None:
        self._question, self._interval = question, interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        # (when it was there, the answer), None for none.
        self.answers: list[tuple[float, Any]] = []

    def _ask(self) -> None:
        while not self._done.is_set():
            try:
                answer = self._question()
            except Exception:
                answer = None
            self.answers.append((time.monotonic(), answer))
            self._done.wait(self._interval)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    @property
    def gap(self) -> float:
        """The longest time without an answer, in seconds."""
        times = [when for when, answer in self.answers if answer is not None]
        assert times, "nobody ever answered"
        ends = [self.answers[0][0], *times, self.answers[-1][0]]
        return max(after - before for before, after in itertools.pairwise(ends))

    @property
    def least(self) -> Any:
        """The least answer."""
        return min(answer for _, answer in self.answers if answer is not None)


def is_ready(address: str, authority: str) -> Callable[[], bool | None]:
    """Return the question whether the API behind an address is ready.

    authority: path of the certificate of the cluster's authority.
    """

    def ask() -> bool | None:
        answer = requests.get(f"https://{address}:6443/readyz", verify=authority, timeout=3)
        return True if answer.status_code == requests.codes.ok else None

    return ask
