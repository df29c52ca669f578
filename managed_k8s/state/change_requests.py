"""What cannot be observed: which servers the reconciler may make or remove, and whether it may change anything.

It makes no server of its own accord that never was complete: `salt-cloud -m cluster.map` makes those, and two at once
would be in each other's way. It removes none that nobody named: a map that is being edited is no wish.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Mapping
from typing import Any

from managed_k8s.state.store import Store

_SERVERS, _CONDEMNED, _PAUSED = "servers.json", "condemned.json", "paused.json"
# A restore that was begun and did not end: managed_k8s/restore/service.py.
RESTORE = "restore.json"
# A server is to be made, or was complete once.
ASKED, COMPLETE = "asked", "complete"
# Why a server is to go that left the map; one that is in it again stays.
LEFT_MAP = "it is not in cluster.map any more"
# Why one goes that came back into it too late.
BEGUN = "its removal had begun"


class Intent:
    """What was said about a cluster's servers; every change is whole, whoever else changes something."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Servers to be made

    def servers(self) -> dict[str, str]:
        """Return name -> ASKED or COMPLETE, of all servers that the reconciler may make (anew)."""
        return dict(self._store.read(_SERVERS) or {})

    def ask(self, names: Collection[str]) -> None:
        """Have these servers made; one that is there is kept as it is."""
        with self._changing(_SERVERS) as servers:
            servers |= dict.fromkeys(names, ASKED)

    def completed(self, names: Collection[str]) -> None:
        """Note that these servers are complete."""
        if set(names) - {name for name, state in self.servers().items() if state == COMPLETE}:
            with self._changing(_SERVERS) as servers:
                servers |= dict.fromkeys(names, COMPLETE)

    # Servers to be removed

    def condemned(self) -> dict[str, dict[str, Any]]:
        """Return name -> `id` of the server that is to go (None: whatever is left of one) and `why`."""
        return dict(self._store.read(_CONDEMNED) or {})

    def condemn(self, servers: Mapping[str, str | None], why: str) -> None:
        """Have servers removed.

        servers: name -> id, so that a successor of that name stays. why: a few words for people.
        """
        with self._changing(_CONDEMNED) as condemned:
            condemned |= {name: {"id": server, "why": why} for name, server in servers.items()}

    def pardon(self, names: Collection[str]) -> None:
        """Have these servers not removed."""
        with self._changing(_CONDEMNED) as condemned:
            for name in names:
                condemned.pop(name, None)

    def commit(self, name: str) -> None:
        """Note that there is no way back any more: what is half gone is removed, whatever the map says."""
        entry = self.condemned().get(name)
        if entry and entry["why"] == LEFT_MAP:
            self.condemn({name: entry["id"]}, BEGUN)

    def removed(self, name: str, again: bool) -> None:
        """Note that a server is gone.

        again: whether one of that name is to be made.
        """
        self.pardon([name])
        with self._changing(_SERVERS) as servers:
            servers.pop(name, None)
            if again:
                servers[name] = ASKED

    # Pause

    def paused(self) -> str:
        """Return since when and why nothing is to be changed; empty when it may."""
        if (self._store.read(RESTORE) or {}).get("pausing"):
            return "a restore was begun; to go on: salt-run managed_k8s.restore"
        kept = self._store.read(_PAUSED)
        return f"paused {kept['since']}: {kept['reason']}" if kept else ""

    def pause(self, reason: str) -> None:
        """Have nothing changed until resume()."""
        self._store.write(_PAUSED, {"since": time.strftime("%Y-%m-%d %H:%M:%S"), "reason": reason})

    def resume(self) -> None:
        """Have things changed again."""
        self._store.remove(_PAUSED)

    def _changing(self, name: str) -> contextlib.AbstractContextManager[dict[str, Any]]:
        return self._store.changing(name, ".intent.lock")
