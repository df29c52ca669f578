"""The reconciler: looks, plans, runs what can be run, and looks again, until nothing is left that it can do.

Events only make it look; what it does follows from what is there. There is one at a time per cluster.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import filelock

from managed_k8s.errors import Error
from managed_k8s.model.cluster import Snapshot
from managed_k8s.model.steps import KINDS, Step
from managed_k8s.plan import plan, progress, waiting
from managed_k8s.plan.startable import startable
from managed_k8s.state import healing
from managed_k8s.state import queue as work_queue
from managed_k8s.state.attempts import StepAttempts
from managed_k8s.state.history import History
from managed_k8s.state.store import Store

# Seconds: to wait for what takes its time on its own before leaving it to the sweep; between looks while waiting;
# between a wake-up and the look, as wake-ups come in crowds.
PATIENCE, POLL, SETTLE = 120, 5, 0.5
# Seconds without a turn, which a look or a moment's wait for steps is, after which a reconciler is called hung: each
# request and job has a limit of its own that is far below.
HANGS = 600
# Another process may look whether the lock is held, for a moment.
_LOCK_WAIT = 2
# In the store: what the last look saw, and what runs.
STATE = "state.json"
# What is announced when something could not be asked.
LOOK_FAILED = "look_failed"


class Observer(Protocol):
    """Looks at the cluster."""

    def look(self) -> Snapshot:
        """Return what should be and what is."""

    def forget(self, minions: list[str]) -> None:
        """Ask these minions anew."""


class Executor(Protocol):
    """Runs steps."""

    def run(self, step: Step, snapshot: Snapshot) -> None:
        """Run one; any exception means that it failed."""

    def clean(self) -> None:
        """Remove what a killed reconciler left."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: what is still to be done and what stands in the way."""

    steps: list[Step]
    waiting: list[str]

    @property
    def ready(self) -> bool:
        """Tell whether the cluster is as it should be."""
        return not self.steps and not self.waiting


class Reconciler:
    """One run for one cluster, to be made while its lock is held."""

    def __init__(
        self,
        store: Store,
        observer: Observer,
        executor: Executor,
        history: History,
        patience: float = PATIENCE,
        poll: float = POLL,
        is_enough: Callable[[Snapshot], bool] = lambda look: False,
    ) -> None:
        self.store, self.observer, self.executor, self.history = store, observer, executor, history
        self.patience, self.poll = patience, poll
        self.is_enough = is_enough
        self.inbox, self.attempts = work_queue.Inbox(store), StepAttempts(store)
        self.running: dict[str, tuple[Step, float]] = {}
        self._seen: dict[str, Any] = {}
        self._ended: queue.Queue[tuple[Step, BaseException | None]] = queue.Queue()

    def run(self) -> Outcome:
        """Return when all is done, or when what is left has not moved for as long as `patience` says.

        One that hangs ends its process, and the lock with it; where it did is in the process's log, and whoever wakes
        the next one has it go on.
        """
        try:
            return self._run()
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _run(self) -> Outcome:
        self.executor.clean()
        self.history.trim()
        last_progress = time.monotonic()
        while True:
            _does_not_hang()
            self.observer.forget([note["id"] for note in self.inbox.take()])
            look, outcome = self._look()
            if outcome and look and self._start(outcome.steps, look):
                last_progress = time.monotonic()
            if self.running:
                self._await_change()
                last_progress = time.monotonic()
                continue
            if outcome and self.inbox.is_empty():
                paused = look is not None and bool(look.observed.fleet.paused)
                enough = look is not None and self.is_enough(look)
                if outcome.ready or paused or enough or time.monotonic() - last_progress > self.patience:
                    return outcome
                self._idle(outcome, time.monotonic() - last_progress)
            elif time.monotonic() - last_progress > self.patience:
                return outcome or Outcome([], ["the last look failed; see salt-run managed_k8s.status"])
            else:
                time.sleep(SETTLE)

    def _look(self) -> tuple[Snapshot | None, Outcome | None]:
        try:
            look = self.observer.look()
        except Exception as error:
            self._note_failed_look(_words(error))
            time.sleep(self.poll)
            return None, None
        outcome = Outcome(plan(look.desired, look.observed), waiting(look.desired, look.observed))
        self._note(look, outcome)
        return look, outcome

    def _note_failed_look(self, why: str) -> None:
        last = failed_look(self.store, self.history)
        if last is None or last["reason"] != why:
            self.history.add("cluster", LOOK_FAILED, why)

    def _note(self, look: Snapshot, outcome: Outcome) -> None:
        """Keep what was seen for whoever reads along: nobody else has to ask the cloud for it."""
        before, now = self.store.read(STATE) or {}, time.time()
        healing.keep(self.store, self.history, look.observed.health)
        self._seen = {
            "time": now,
            **_stretch(before, outcome.ready, now),
            "ready": outcome.ready,
            "steps": [dataclasses.asdict(step) for step in outcome.steps],
            "waiting": outcome.waiting,
            "servers": progress.servers(look.desired, look.observed),
            "parts": progress.parts(look.desired, look.observed),
        }
        self._write_state()
        if outcome.ready:
            self.attempts.forget()
        if outcome.ready and not before.get("ready"):
            self.history.add("cluster", "ready", "everything is as it should be")

    def _write_state(self) -> None:
        ago = time.time() - time.monotonic()
        running = [
            {"id": step.id, "kind": step.kind, "node": step.node, "since": round(ago + since, 2)}
            for step, since in self.running.values()
        ]
        self.store.write(STATE, {**self._seen, "running": running})

    # Running steps

    def _start(self, steps: list[Step], look: Snapshot) -> bool:
        """Start what may be started; return whether anything was."""
        started = False
        if look.observed.fleet.paused:
            return False
        for step in startable(steps, [step for step, _ in self.running.values()], self.attempts.resting(time.time())):
            self.running[step.id] = (step, time.monotonic())
            self.history.add(step.node or "cluster", "begun", step.description, step=step.id)
            # Daemons: one that hangs does not keep the process from ending, and the lock with it.
            threading.Thread(target=self._do, args=(step, look), name=step.id, daemon=True).start()
            started = True
        if started:
            self._write_state()
        return started

    def _do(self, step: Step, look: Snapshot) -> None:
        try:
            self.executor.run(step, look)
        except BaseException as error:
            self._ended.put((step, error))
        else:
            self._ended.put((step, None))

    def _await_change(self) -> None:
        """Wait until a step ended or somebody left a note, and a little longer for others that do."""
        while self.running:
            _does_not_hang()
            try:
                step, error = self._ended.get(timeout=SETTLE)
            except queue.Empty:
                self._stop_overdue()
                if not self.inbox.is_empty():
                    return
                continue
            self._finish(step, error)
            while not self._ended.empty():
                self._finish(*self._ended.get())
            self._write_state()
            return

    def _finish(self, step: Step, error: BaseException | None) -> None:
        _, since = self.running.pop(step.id)
        seconds = round(time.monotonic() - since, 1)
        subject = step.node or "cluster"
        self.observer.forget([step.node] if step.node else [])
        if error is None:
            self.attempts.succeeded(step)
            self.history.add(subject, KINDS[step.kind].event, step.description, step=step.id, seconds=seconds)
            return
        why = _words(error)
        self.attempts.failed(step, why)
        reason = f"{step.description}: {why}\nTo do: {step.advice}"
        self.history.add(subject, "failed", reason, step=step.id, seconds=seconds)

    def _stop_overdue(self) -> None:
        """Give up on steps that outlive their limit by far: their threads end with this process."""
        for step, since in list(self.running.values()):
            limit = step.limit * 1.2
            if time.monotonic() - since > limit:
                self._finish(step, TimeoutError(f"did not end within {limit:.0f} seconds"))
                raise OverdueError(step.id)

    def _idle(self, outcome: Outcome, idle: float) -> None:
        """Wait for a note, or until it is time to look again: often at first, as most things take seconds.

        idle: seconds without progress so far.
        """
        pause = min(self.poll, max(self.poll / 5, idle / 2))
        if pause == self.poll:
            # What nobody announced; before that, an event told of everything that happened on a minion.
            self.observer.forget([step.node for step in outcome.steps])
        end = time.monotonic() + min(pause, max(self.patience - idle, 0.1))
        while time.monotonic() < end and self.inbox.is_empty():
            time.sleep(min(SETTLE, pause))


def _does_not_hang() -> None:
    """Begin to wait for the next turn anew."""
    # Its thread is none of Python's: it ends a process that waits for one of its own locks, too. 2: standard error.
    faulthandler.dump_traceback_later(HANGS, exit=True, file=2)


def _stretch(before: Mapping[str, Any], ready: bool, now: float) -> dict[str, float | None]:
    """Return when the present stretch of work began, and when it ended in a cluster that is as it should be."""
    if not before or (before["ready"] and not ready):
        return {"since": now, "until": now if ready else None}
    return {"since": before.get("since", now), "until": (before.get("until") or now) if ready else None}


def failed_look(store: Store, history: History) -> Mapping[str, Any] | None:
    """Return what is on record of looks that failed since the last one that did not, if any did."""
    last, seen = history.last(1), (store.read(STATE) or {}).get("time", 0)
    return last[0] if last and last[0]["what"] == LOOK_FAILED and last[0]["time"] > seen else None


class OverdueError(Error):
    """A step hangs; the process has to end, so that the next one can begin it anew."""


def _words(error: BaseException) -> str:
    return str(error).strip() or type(error).__name__


Make = Callable[[], Reconciler]


def reconcile(store: Store, make: Make) -> Outcome | None:
    """Run the reconciler under the cluster's lock; None when another one is at work, which will look again.

    make: makes the reconciler; called once the lock is held, and again for notes that came as the last one ended.
    """
    while True:
        try:
            with work_queue.lock(store).acquire(timeout=_LOCK_WAIT):
                outcome = make().run()
        except filelock.Timeout:
            return None
        # Whoever left a note while the lock was still held started nothing.
        if work_queue.Inbox(store).is_empty():
            return outcome
