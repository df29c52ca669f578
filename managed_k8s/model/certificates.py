"""Until when certificates are good: plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class CertificateExpiry:
    """When the first of a server's certificates ends, in seconds since 1970; None where there is none.

    control_plane: of those that kubeadm made, on masters. kubelet: of the kubelet's own. authority: of the certificate
    authorities on the server. renewing: whether a renewal was begun and did not end.
    """

    control_plane: float | None = None
    kubelet: float | None = None
    authority: float | None = None
    renewing: bool = False

    @classmethod
    def of(cls, told: object) -> CertificateExpiry:
        """Return what a minion told; nothing of what it did not tell in numbers."""
        if not isinstance(told, Mapping):
            return cls()
        times = {name: told.get(name) for name in ("control_plane", "kubelet", "authority")}
        good = {name: float(time) for name, time in times.items() if isinstance(time, int | float)}
        return cls(**good, renewing=told.get("renewing") is True)
