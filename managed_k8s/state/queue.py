"""Telling the reconciler to look: notes in the cluster's store, and the lock that makes it one at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
import psutil

from managed_k8s import paths
from managed_k8s.state.store import Store

LOCK = "reconcile.lock"
# A look serves all notes, so more of them than this say nothing new.
_MOST = 100
# Bytes of a log that is begun anew.
_LONG = 1_000_000
# The entry of background processes. It is a layer above: a name, nothing that is imported.
_WORKER = "managed_k8s.operations.worker"


class Inbox:
    """The notes that nobody acted on yet."""

    def __init__(self, store: Store) -> None:
        self._folder = store.path("wakeups/note").parent

    def put(self, subject: str, reason: str) -> None:
        """Leave a note.

        subject: a node or the cluster. reason: a few words; they come from events, so only their beginning is kept.
        """
        if sum(1 for _ in self._folder.iterdir()) >= _MOST:
            return
        words = "".join(character for character in reason if character.isprintable())[:200]
        name = f"{time.time():.6f}-{uuid.uuid4().hex}"
        part = self._folder / f".{name}"
        part.touch(mode=0o600)
        part.write_text(json.dumps({"id": subject, "reason": words}))
        part.rename(self._folder / name)

    def take(self) -> list[dict[str, str]]:
        """Return the notes, oldest first, and remove them."""
        notes = []
        for file in self._files():
            with contextlib.suppress(FileNotFoundError, ValueError):
                notes.append(json.loads(file.read_text()))
            file.unlink(missing_ok=True)
        return notes

    def is_empty(self) -> bool:
        """Tell whether there is nothing to act on."""
        return not self._files()

    def _files(self) -> list[Path]:
        return sorted(file for file in self._folder.iterdir() if not file.name.startswith("."))


def lock(store: Store) -> filelock.FileLock:
    """Return the lock of a cluster's reconciler: one of the kernel's, so it dies with its process."""
    return filelock.FileLock(store.path(LOCK), mode=0o600)


def is_held(store: Store, name: str = LOCK) -> bool:
    """Tell whether a reconciler, or who else has a lock of its own, is at work; those who ask do not see each other."""
    with contextlib.suppress(FileNotFoundError), (store.folder / name).open() as file:
        try:
            # Shared, where the worker's is exclusive.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def enqueue(opts: Mapping[str, Any], store: Store, subject: str, reason: str) -> None:
    """Leave a note, and start a reconciler unless one is at work; it looks again before it ends."""
    Inbox(store).put(subject, reason)
    if not is_held(store) and not _starts(store):
        start(opts, store)


def _starts(store: Store) -> bool:
    """Tell whether somebody started one a moment ago: at first, all minions of a cluster come up at once."""
    stamp = store.path("reconcile.started")
    with contextlib.suppress(FileNotFoundError):
        if 0 <= time.time() - stamp.stat().st_mtime < 3:
            return True
    stamp.touch(mode=0o600)
    return False


def start(opts: Mapping[str, Any], store: Store, what: str = "reconcile") -> None:
    """Start a process and session of its own: it outlives who asked for it.

    what: the kind of work, of managed_k8s/operations/worker.py.
    """
    log = _log(store, what)
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    command = [sys.executable, "-m", _WORKER, what, _configuration(opts), store.cluster]
    with os.fdopen(handle, "ab") as output:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=paths.root(opts),
            start_new_session=True,
        )


def _log(store: Store, what: str) -> Path:
    """Return the file for what goes wrong; a long one becomes the old one, in place of that before it."""
    log = store.path(f"{what}.log")
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LONG:
            log.replace(log.with_suffix(".log.old"))
    return log


def _configuration(opts: Mapping[str, Any]) -> str:
    return str(opts["conf_file"])


def reconcilers(configuration: str, cluster: str | None = None) -> list[psutil.Process]:
    """Return the reconcilers that run in processes of their own.

    configuration: file of the Salt master that they work for. cluster: the one they work for; None: any.
    """
    wanted = ["-m", _WORKER, "reconcile", configuration, *([cluster] if cluster else [])]
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[1 : 1 + len(wanted)] == wanted
    ]
