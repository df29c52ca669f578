"""Who makes or removes a server: a lock for each, of the kernel, so it dies with its process."""

from __future__ import annotations

import filelock

from managed_k8s.state import queue
from managed_k8s.state.store import Store


def of_server(store: Store, name: str) -> filelock.FileLock:
    """Return the lock of whoever works on the server of this name."""
    return filelock.FileLock(store.path(_file(name)), mode=0o600)


def is_held(store: Store, name: str) -> bool:
    """Tell whether somebody works on the server of this name right now."""
    return queue.is_held(store, _file(name))


def _file(name: str) -> str:
    return f".{name}.lock"
