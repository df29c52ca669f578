"""What cannot be observed of a rollout: that it was asked for, and on which servers a step was begun."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any

from managed_k8s.state.store import Store
from managed_k8s.state.versions import AT_WORK, SEEN, WANTED

_MAINTENANCE = "maintenance.json"


class Record:
    """What is on record about a cluster's rollouts; every change is whole, whoever else changes something."""

    def __init__(self, store: Store) -> None:
        self._store = store

    # Upgrades

    def upgrade(self) -> dict[str, Any]:
        """Return the last upgrade; empty when there was none.

        It has `version`, `before` (what ran), `backup` (its name), `written` (what the settings said), `time`, and
        `halted` when it is not to go on.
        """
        return dict(self._store.read(WANTED) or {})

    def ask(self, version: str, before: str, backup: str, written: str) -> None:
        """Have the cluster upgraded.

        before: the version that it runs. backup: its name, for a way back. written: what the settings say.
        """
        content = {"version": version, "before": before, "backup": backup, "written": written, "time": time.time()}
        self._store.write(WANTED, content)

    def halt(self, halted: bool) -> None:
        """Have the upgrade not go on, or go on after all."""
        with self._changing(WANTED) as upgrade:
            upgrade["halted"] = halted

    # Steps

    def begun(self) -> dict[str, str]:
        """Return server -> kind of the step that was begun on it."""
        return dict((self._store.read(AT_WORK) or {}).get("begun", {}))

    def begin(self, name: str, kind: str) -> None:
        """Note that a step is begun on a server."""
        with self._changing(AT_WORK) as work:
            work.setdefault("begun", {})[name] = kind

    def take_turn(self, name: str) -> None:
        """Have a node made from the version that the cluster is upgraded to: nothing runs on it that may not."""
        with self._changing(AT_WORK) as work:
            work["turn"] = sorted({*work.get("turn", ()), name})

    def end(self, name: str, version: str = "") -> None:
        """Note that a step ended well.

        version: of the kubelet that the node runs now, so that nobody takes it for the old one until the next look.
        """
        if version:
            with self._changing(SEEN) as seen:
                seen.setdefault("nodes", {})[name] = version
        with self._changing(AT_WORK) as work:
            work.get("begun", {}).pop(name, None)
            work["turn"] = [other for other in work.get("turn", ()) if other != name]

    # Maintenance

    def maintenance(self) -> dict[str, dict[str, Any]]:
        """Return server -> `boot` (id of the boot that is to end) and `packages` (whether they are upgraded)."""
        return dict(self._store.read(_MAINTENANCE) or {})

    def ask_maintenance(self, boots: Mapping[str, str | None], packages: bool) -> None:
        """Have servers rebooted.

        boots: name -> id of the present boot. packages: whether Debian's packages are upgraded before.
        """
        with self._changing(_MAINTENANCE) as servers:
            servers |= {name: {"boot": boot, "packages": packages} for name, boot in boots.items()}

    def maintained(self, name: str) -> None:
        """Note that a server was rebooted."""
        with self._changing(_MAINTENANCE) as servers:
            servers.pop(name, None)
        self.end(name)

    def _changing(self, name: str) -> contextlib.AbstractContextManager[dict[str, Any]]:
        return self._store.changing(name, ".rolling.lock")
