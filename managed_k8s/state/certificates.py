"""Until when certificates are good: what minions said last, and what is to be said of it."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping

from managed_k8s.model.certificates import CertificateExpiry
from managed_k8s.state.store import Store

_KEPT = "certificates.json"
_DAY = 86400
# Days before their end: kubelets renew theirs themselves, at 70 to 90 % of a year; authorities take a plan.
_KUBELET, _AUTHORITY = 14, 180


def remember(store: Store, ends: Mapping[str, CertificateExpiry]) -> None:
    """Keep what was told, for whoever asks without asking the minions."""
    told = {name: dataclasses.asdict(end) for name, end in sorted(ends.items())}
    if told != (store.read(_KEPT) or {}):
        store.write(_KEPT, told)


def problems(store: Store, margin: int, now: float) -> list[str]:
    """Return sentences about what should have been renewed by now, and about authorities that end soon.

    margin: days before their end at which masters' certificates are renewed.
    """
    ends = {name: CertificateExpiry(**told) for name, told in (store.read(_KEPT) or {}).items()}
    found = [
        sentence
        for name, end in ends.items()
        for sentence in (
            # A day is enough for what is done by itself.
            _problem(name, "certificates of the control plane", end.control_plane, margin - 1, now,
                     "see salt-run managed_k8s.plan"),
            _problem(name, "the kubelet's certificate", end.kubelet, _KUBELET, now,
                     f"it should renew it itself: salt {name} cmd.run 'journalctl -u kubelet | grep -i certificate'"),
        )
    ]  # fmt: skip
    authorities = [end.authority for end in ends.values() if end.authority is not None]
    if authorities:
        way = "docs/certificates.md says how they are exchanged"
        found.append(_problem(store.cluster, "certificate authorities", min(authorities), _AUTHORITY, now, way))
    return [text for text in found if text]


def _problem(name: str, what: str, end: float | None, margin: int, now: float, way: str) -> str:
    if end is None or end - now > margin * _DAY:
        return ""
    return f"{name}: {what} {'end' if end > now else 'ended'} on {_day(end)}; {way}"


def _day(time: float) -> str:
    return datetime.datetime.fromtimestamp(time, datetime.UTC).strftime("%Y-%m-%d")
