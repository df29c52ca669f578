"""Noticing within seconds that a server fell silent, as one that lost its power announces nothing.

Asked are, of each cluster, the leases that kubelets renew every ten seconds, by one request, and the gateways' ports.
All that follows is a note in the store since when a server is silent, and an event: the reconciler looks for itself.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import urllib3.exceptions
from kubernetes.client.exceptions import ApiException

from managed_k8s.config import load
from managed_k8s.kube import access, client
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.names import GATEWAY
from managed_k8s.observe.health import ports
from managed_k8s.observe.health_signals import SILENT
from managed_k8s.state.history import History
from managed_k8s.state.store import Store

log = logging.getLogger(__name__)

# Seconds between two looks; without a sign of life until a server is called silent: two renewals were missed.
EVERY, SILENCE = 5, 22
# What a port that answers is heard to say.
_ANSWERS = ""


def run(opts: Mapping[str, Any]) -> None:
    """Watch all clusters with settings, for ever."""
    watches: dict[str, Watch] = {}
    while True:
        began = time.monotonic()
        for name in load.clusters(opts):
            store = Store.of(opts, name)
            watch = watches.setdefault(name, Watch(store, History(store, opts)))
            try:
                watch.look(watch.signs_of_life(), time.time())
            except Exception:
                # One cluster's trouble is not the others', and the process that watches does not end.
                log.exception("cluster %s cannot be watched", name)
        time.sleep(max(EVERY - (time.monotonic() - began), 1))


class Watch:
    """Watches one cluster."""

    def __init__(self, store: Store, history: History) -> None:
        self.store, self.history = store, history
        # Server -> the last sign of life, and when it was new. By this machine's clock alone, whatever the others' say.
        self._heard: dict[str, tuple[str, float]] = {}
        self._client: tuple[str | None, Any] = (None, None)

    def signs_of_life(self) -> dict[str, str | None] | None:
        """Return server -> what changes as long as it lives; None of a silent port; None when the API is silent."""
        servers = self.store.read("inventory.json") or {}
        leases = self._leases()
        if leases is None:
            return None
        gateways = ports([name for name, server in servers.items() if server["role"] == GATEWAY], servers)
        found: dict[str, str | None] = {name: lease for name, lease in leases.items() if name in servers}
        return found | {name: _ANSWERS if answers else None for name, answers in gateways.items()}

    def _leases(self) -> dict[str, str] | None:
        """Return the kubelets' leases; none before there is an API, None when it is silent."""
        text = self.store.read_text(access.KUBECONFIG)
        if text is None:
            return {}
        if text != self._client[0]:
            self._client = (text, client.connect(access.kubeconfig(self.store)))
        try:
            return kube_nodes.leases(self._client[1], timeout=3)
        except (ApiException, urllib3.exceptions.HTTPError, OSError):
            return None

    def look(self, found: Mapping[str, str | None] | None, now: float) -> None:
        """Note who is silent, and announce who was not before, or is not any more.

        found: as signs_of_life() returns it. now: seconds since the epoch.
        """
        if found is None:
            # Nobody could renew anything meanwhile: all begin anew.
            self._heard.clear()
            return
        kept = self.store.read(SILENT) or {}
        self._heard = dict(self._now_heard(found, kept, now))
        since = {name: at for name, (_, at) in self._heard.items() if now - at >= SILENCE}
        silent = {name: {"since": at, "lease": self._heard[name][0]} for name, at in since.items()}
        if silent != kept:
            self.store.write(SILENT, silent)
        for name in silent.keys() - kept.keys():
            self.history.add(name, "silent", f"{name} was last heard of {now - since[name]:.0f} s ago")
        for name in kept.keys() - silent.keys():
            self.history.add(name, "heard", f"{name} is heard again" if name in found else f"{name} is gone")

    def _now_heard(
        self, found: Mapping[str, str | None], kept: Mapping[str, Any], now: float
    ) -> Iterator[tuple[str, tuple[str, float]]]:
        for name, sign in found.items():
            last = self._heard.get(name)
            if last is None and name in kept and sign in (None, kept[name]["lease"]):
                # It was silent before this process began, and has not been heard since.
                last = (kept[name]["lease"], kept[name]["since"])
            if last is None:
                last = (sign or _ANSWERS, now)
            is_news = sign is not None and (sign == _ANSWERS or sign != last[0])
            yield name, ((sign or _ANSWERS, now) if is_news else last)
