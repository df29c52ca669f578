"""Which backups are restored, and where to: pure functions, so that what is shown is what is done."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from managed_k8s.errors import Error
from managed_k8s.volumes.claims import LABEL, VALUE, Claim
from managed_k8s.volumes.record import Record


class VolumeError(Error):
    """Volumes cannot be backed up or restored; the message says why and what to do."""


@dataclasses.dataclass(frozen=True)
class Restoration:
    """A backup on its way to a claim.

    target: the claim to be. replaces: the one that has its name now; its volume stays.
    """

    record: Record
    target: Claim
    replaces: Claim | None = None

    def labels(self) -> Mapping[str, str]:
        """Return the claim's labels: those it has; one that is brought back is backed up again, a copy is not."""
        if self.replaces is not None:
            return self.replaces.labels
        return {LABEL: VALUE} if self.target.path == self.record.claim.path else {}

    def __str__(self) -> str:
        words = f"{self.target.path}: a new volume of {self.record.size} GiB from {self.record.name}"
        if self.target.path != self.record.claim.path:
            words += f" of {self.record.claim.path}"
        if self.replaces is None:
            return words
        if not self.replaces.volume:
            return f"{words}; the claim of that name, which has no volume, is replaced"
        return (
            f"{words}; the claim is made anew, and what was written to it since is not in it. Its volume of now stays "
            f"as PersistentVolume {self.replaces.volume}, Cinder volume {self.replaces.handle}"
        )


def choose(records: Sequence[Record], claim: str | None, namespace: str | None, backup: str | None) -> list[Record]:
    """Return one backup of each claim that is meant: the one of that name, or the newest good one.

    records: newest first. claim, namespace: None means all. Raises VolumeError.
    """
    meant = [one for one in records if claim in (None, one.claim.name) and namespace in (None, one.claim.namespace)]
    usable = [one for one in meant if (one.good if backup is None else one.name == backup)]
    chosen: dict[str, Record] = {}
    for one in usable:
        chosen.setdefault(one.claim.path, one)
    bad = [f"{one.claim.path}: {one.name} is not good: {one.problem}" for one in chosen.values() if one.problem]
    if bad:
        raise VolumeError("; ".join(bad))
    if not chosen:
        what = " ".join(filter(None, ("of", namespace or "any namespace", claim, backup and f"called {backup}")))
        there = ", ".join(f"{one.claim.path} {one.name}" for one in (meant or records)[:5]) or "none"
        raise VolumeError(f"there is no good backup {what}; there are {there}: salt-run managed_k8s.volume_backups")
    return [chosen[path] for path in sorted(chosen)]


def plan(
    chosen: Sequence[Record],
    into: str | None,
    into_namespace: str | None,
    existing: Callable[[str, str], Claim | None],
    users: Callable[[str, str], Sequence[str]],
    storage_classes: Sequence[str],
) -> list[Restoration]:
    """Return what is to be done. Raises VolumeError with everything that is in the way.

    existing: gives the claim of a namespace and name. users: gives the pods that use it.
    """
    if into and len(chosen) > 1:
        paths = ", ".join(one.claim.path for one in chosen)
        raise VolumeError(f"into: {into!r} names one claim, and these are {len(chosen)}: {paths}; name one by pvc=")
    restorations, wrong = [], []
    taken: dict[str, str] = {}
    for one in chosen:
        target = dataclasses.replace(
            one.claim, namespace=into_namespace or one.claim.namespace, name=into or one.claim.name
        )
        if target.path in taken:
            wrong.append(f"{target.path}: {taken[target.path]} and {one.claim.path} would both be restored there")
        taken[target.path] = one.claim.path
        if target.storage_class not in storage_classes:
            wrong.append(
                f"{target.path}: there is no StorageClass {target.storage_class!r}; there are "
                f"{', '.join(storage_classes) or 'none'}. Make one of that name first"
            )
        pods = users(target.namespace, target.name)
        if pods:
            wrong.append(
                f"{target.path} is in use by {', '.join(pods)}: scale down what runs them, or restore beside it with "
                "into=NAME or into_namespace=NAMESPACE"
            )
        restorations.append(Restoration(one, target, existing(target.namespace, target.name)))
    if wrong:
        raise VolumeError("\n".join(wrong))
    return restorations
