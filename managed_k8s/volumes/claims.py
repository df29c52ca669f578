"""A claim to a volume, as far as one needs to know it to make it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from managed_k8s.kube.csi import DRIVER

# Which claims are backed up: users put it there.
LABEL, VALUE = "managed-k8s/backup", "true"
ZONE = "topology.cinder.csi.openstack.org/zone"


@dataclasses.dataclass(frozen=True)
class Claim:
    """A PersistentVolumeClaim with its volume.

    volume: the PersistentVolume's name, empty while there is none. handle: of the volume in Cinder. zone: the
    availability zone that the volume can be attached in. problem: why it cannot be backed up.
    """

    namespace: str
    name: str
    storage_class: str = ""
    access_modes: tuple[str, ...] = ("ReadWriteOnce",)
    volume_mode: str = "Filesystem"
    file_system: str = ""
    zone: str = ""
    uid: str = dataclasses.field(default="", compare=False)
    volume: str = dataclasses.field(default="", compare=False)
    handle: str = dataclasses.field(default="", compare=False)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict, compare=False)
    problem: str = dataclasses.field(default="", compare=False)

    @property
    def path(self) -> str:
        """Namespace and name."""
        return f"{self.namespace}/{self.name}"

    def texts(self) -> dict[str, str]:
        """Return what outlives the cluster, as texts."""
        return {
            "namespace": self.namespace,
            "claim": self.name,
            "storage-class": self.storage_class,
            "access-modes": ",".join(self.access_modes),
            "volume-mode": self.volume_mode,
            "file-system": self.file_system,
            "zone": self.zone,
        }

    @classmethod
    def of_texts(cls, texts: Mapping[str, str]) -> Claim:
        """Return the claim that texts() was of. Raises KeyError."""
        return cls(
            texts["namespace"], texts["claim"], texts.get("storage-class", ""),
            tuple(texts["access-modes"].split(",")), texts["volume-mode"],
            texts.get("file-system", ""), texts.get("zone", ""),
        )  # fmt: skip

    @classmethod
    def of(cls, claim: Any, volume: Any) -> Claim:
        """Return what a PersistentVolumeClaim and its PersistentVolume (None: it has none) say."""
        spec, csi = claim.spec, volume and volume.spec.csi
        return cls(
            claim.metadata.namespace, claim.metadata.name, spec.storage_class_name or "", tuple(spec.access_modes),
            spec.volume_mode or "Filesystem", (csi and csi.fs_type) or "", _zone(volume),
            uid=claim.metadata.uid, volume=volume.metadata.name if volume else "",
            handle=csi.volume_handle if csi else "", labels=claim.metadata.labels or {},
            problem=_problem(claim, volume),
        )  # fmt: skip


def _problem(claim: Any, volume: Any) -> str:
    if claim.metadata.deletion_timestamp:
        return "is being deleted"
    if volume is None:
        return "has no volume yet: nothing uses it"
    if volume.spec.csi is None or volume.spec.csi.driver != DRIVER:
        return f"its volume {volume.metadata.name} is not Cinder's"
    return ""


def _zone(volume: Any) -> str:
    affinity = volume and volume.spec.node_affinity
    terms = affinity.required.node_selector_terms if affinity and affinity.required else []
    found = [one.values[0] for term in terms for one in term.match_expressions or [] if one.key == ZONE and one.values]
    return found[0] if found else ""
