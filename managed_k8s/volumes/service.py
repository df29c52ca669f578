"""Backups of one cluster's volumes: made, listed, let go of, restored."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import filelock

from managed_k8s.backup import retention, schedule
from managed_k8s.config.settings import Settings
from managed_k8s.state import attempts, queue
from managed_k8s.state.attempts import attempting
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from managed_k8s.volumes import cinder, health, objects, record, restore_plan
from managed_k8s.volumes.claims import Claim
from managed_k8s.volumes.record import Record
from managed_k8s.volumes.restore_plan import Restoration, VolumeError

if TYPE_CHECKING:
    from managed_k8s.volumes.kubernetes import Kubernetes

# What was attempted, and what there was at the last look; in the cluster's store.
VOLUMES, LISTED = "volumes.json", "volumes_listed.json"
LOCK = "volumes.lock"
_LOOK = 5
# Seconds for which a snapshot may fail without a backup in Cinder: the driver tries again by itself.
_PATIENCE = 120
_UNBOUND = _BOUND = 60
_AT_ONCE = 8

Say = Callable[[str], None]


def lock(store: Store) -> filelock.FileLock:
    """Return the lock of a cluster's volumes: one of the kernel's, so it dies with its process."""
    return filelock.FileLock(store.path(LOCK), mode=0o600)


class VolumeBackups:
    """Everything about the backups of one cluster's volumes.

    kubernetes: gives the cluster's API. Cinder alone knows which backups there are.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        in_cinder: cinder.Cinder,
        kubernetes: Callable[[], AbstractContextManager[Kubernetes]],
        history: History,
    ) -> None:
        self.store, self.cinder, self.kubernetes, self.history = store, in_cinder, kubernetes, history
        self.settings = settings.backup.volumes

    # Looking

    def records(self) -> list[Record]:
        """Return all backups, newest first; the cluster need not be there. Raises CloudError."""
        found = record.newest_first(self.cinder.backups())
        self._keep(records=[dataclasses.asdict(one) for one in found])
        return found

    def _keep(self, **what: Any) -> None:
        self.store.write(LISTED, {"claims": [], "records": [], **(self.store.read(LISTED) or {}), **what})

    def state(self) -> dict[str, Any]:
        """Return what is wrong, from what is on record: nobody is asked."""
        problems: list[str] = []
        if self.settings.enabled:
            kept = self.store.read(LISTED) or {"claims": [], "records": []}
            records = [_record(one) for one in kept["records"]]
            attempts = self.attempts().seen(queue.is_held(self.store, LOCK))
            problems = health.problems(self.settings, kept["claims"], records, attempts, time.time())
        return {"problems": problems}

    def attempts(self) -> attempts.Attempts:
        """Return what is on record about them."""
        return attempts.Attempts.of(self.store.read(VOLUMES))

    def is_due(self, now: float) -> bool:
        """Tell whether they are to be made now."""
        return schedule.is_due(self.settings.schedule, self.attempts(), now)

    # Making

    def take(self, reason: str, since: float | None = None) -> list[Record]:
        """Back every labelled claim's volume up, and let go of the backups that the retention does not keep.

        since: leave those out that have a good one from then on. Raises VolumeError with everything that failed (what
        went well stays), CloudError. To be called while lock() is held.
        """
        attempt = attempting(self.store, self.history, VOLUMES, "volumes", "made")
        with attempt as announce, self.kubernetes() as kubernetes:
            made = self._take(kubernetes, reason, since)
            sizes = sum(one.size for one in made)
            announce(f"{len(made)} volumes, {sizes} GiB", volumes=[one.claim.path for one in made], size=sizes)
        return made

    def _take(self, kubernetes: Kubernetes, reason: str, since: float | None) -> list[Record]:
        for left in kubernetes.snapshots():
            kubernetes.delete_snapshot(left)
        self.cinder.clear()
        claims = kubernetes.labelled()
        self._keep(claims=[claim.path for claim in claims])
        # Before any is made: the project's quota is for all that are kept.
        before = self.prune()
        done = {one.claim.path for one in before if one.good and since is not None and one.time >= since}
        wanted = [claim for claim in claims if claim.path not in done]
        failed = {claim.path: claim.problem for claim in wanted if claim.problem}
        fitting = self._fitting([claim for claim in wanted if not claim.problem], before, failed)
        made = self._make(kubernetes, fitting, reason, failed)
        self.prune()
        if failed:
            raise VolumeError(_words(failed))
        return made

    def _fitting(self, claims: Sequence[Claim], before: Sequence[Record], failed: dict[str, str]) -> Sequence[Claim]:
        """Return those that the project's quota has room for, the longest without one first; add why to `failed`."""
        room = self.cinder.room()
        if room is None or len(claims) <= room[0]:
            return claims
        newest = {one.claim.path: one.time for one in reversed(before) if one.good}
        waiting = sorted(claims, key=lambda claim: newest.get(claim.path, 0))
        why = (
            f"the project's quota is {room[1]} volume backups, with room for {room[0]} of the {len(claims)} now due: "
            "have it enlarged (openstack quota set --backups), or keep fewer of each claim (backup.volumes.retention)"
        )
        failed |= {claim.path: why for claim in waiting[room[0] :]}
        return waiting[: room[0]]

    def _make(
        self, kubernetes: Kubernetes, claims: Sequence[Claim], reason: str, failed: dict[str, str]
    ) -> list[Record]:
        """Return the backups that were made, all begun at once; add why to `failed` of each that was not."""
        begun = float(int(time.time()))
        end = time.monotonic() + 60 * self.settings.timeout_minutes
        pending: dict[str, Claim] = {}
        for claim in claims:
            try:
                kubernetes.create_snapshot(objects.snapshot(claim, begun))
            except VolumeError as error:
                failed[claim.path] = str(error)
            else:
                pending[objects.snapshot_name(claim, begun)] = claim
        made: list[Record] = []
        ill: dict[str, float] = {}
        while pending:
            time.sleep(_LOOK)
            snapshots = {one["metadata"]["name"]: one for one in kubernetes.snapshots()}
            backups = {one.metadata.get(cinder.SNAPSHOT): one for one in self.cinder.backups()}
            for name, claim in list(pending.items()):
                snapshot, backup = snapshots.get(name), backups.get(name)
                if backup is not None and _is_complete(snapshot, backup):
                    self.cinder.mark(backup, record.metadata(claim, begun, reason))
                    made.append(Record(backup.id, begun, claim, backup.size, reason))
                elif why := _failure(snapshot, backup, ill.setdefault(name, time.monotonic()), end):
                    failed[claim.path] = why
                else:
                    if backup or not _error(snapshot):
                        ill[name] = time.monotonic()
                    continue
                del pending[name]
                if snapshot:
                    kubernetes.delete_snapshot(snapshot)
        return made

    # Letting go

    def prune(self) -> list[Record]:
        """Remove what the retention does not keep, of each claim; return what stays. Raises CloudError."""
        found = self.records()
        own: dict[str, list[Record]] = {}
        for one in found:
            own.setdefault(one.claim.path, []).append(one)
        kept = [
            one
            for ones in own.values()
            for names in (retention.keep(ones, self.settings.retention.model_dump()),)
            for one in ones
            if one.name in names
        ]
        self.cinder.delete_backups(one.id for one in found if one not in kept)
        self._keep(records=[dataclasses.asdict(one) for one in found if one in kept])
        return [one for one in found if one in kept]

    # Restoring

    def plan(
        self, claim: str | None, namespace: str | None, backup: str | None, into: str | None, into_namespace: str | None
    ) -> list[Restoration]:
        """Return what restore() would do. Raises VolumeError with everything that is in the way, CloudError."""
        with self.kubernetes() as kubernetes:
            chosen = restore_plan.choose(self.records(), claim, namespace, backup)
            classes = sorted(kubernetes.storage_classes())
            return restore_plan.plan(chosen, into, into_namespace, kubernetes.claim, kubernetes.users, classes)

    def restore(self, restorations: Sequence[Restoration], say: Say) -> list[dict[str, str]]:
        """Bring volumes back, from plan(). Interrupted, it goes on when it is called again.

        Nothing that is there is touched before the new volume has its content; old volumes stay. Raises VolumeError,
        CloudError. To be called while lock() is held.
        """
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            jobs = [(one, pool.submit(self._restore, one, say)) for one in restorations]
        wrong = [f"{one.target.path}: {error}" for one, job in jobs if (error := job.exception())]
        if wrong:
            raise VolumeError("\n".join(wrong))
        return [job.result() for _, job in jobs]

    def _restore(self, one: Restoration, say: Say) -> dict[str, str]:
        with self.kubernetes() as kubernetes:
            kind = kubernetes.storage_classes()[one.target.storage_class]
            volume = self._volume(kubernetes, one, kind.parameters or {}, say)
            old = kubernetes.claim(one.target.namespace, one.target.name)
            # What an interrupted run made is no old one.
            old = None if old is not None and old.volume == volume.name else old
            if old is not None:
                self._retire(kubernetes, one, old, say)
            zone = volume.availability_zone if volume.availability_zone in kubernetes.zones() else ""
            reclaim, size = kind.reclaim_policy or "Delete", int(volume.size)
            kubernetes.bring(
                objects.volume(one.target, volume.name, volume.id, size, reclaim, zone),
                objects.claim(one.target, volume.name, size, one.labels()),
                _BOUND,
            )
            self.cinder.finish(volume, one)
        words = f"{one.target.path} is {one.record.name} of {one.record.claim.path}"
        self.history.add("volumes", "restored", words, backup=one.record.name)
        say(words)
        return {
            "claim": one.target.path,
            "backup": one.record.name,
            "volume": volume.id,
            "kept": old.volume if old else "",
        }

    def _volume(self, kubernetes: Kubernetes, one: Restoration, parameters: Mapping[str, str], say: Say) -> Any:
        """Return a Cinder volume with the backup's content."""
        volume = self.cinder.restored(one, kubernetes.is_used)
        if volume is None:
            zone = parameters.get("availability") or one.record.claim.zone or None
            volume = self.cinder.create(one, parameters.get("type"), zone)
        say(f"{one.target.path}: Cinder volume {volume.id} from {one.record.name}")
        return self.cinder.await_restored(volume, 60 * self.settings.timeout_minutes)

    @staticmethod
    def _retire(kubernetes: Kubernetes, one: Restoration, old: Claim, say: Say) -> None:
        if one.replaces is None or one.replaces.uid != old.uid:
            raise VolumeError("a claim of that name was made meanwhile; run it again to see what that means")
        if pods := kubernetes.users(old.namespace, old.name):
            raise VolumeError(f"{', '.join(pods)} began to use it meanwhile; nothing was changed")
        say(f"{old.path}: its volume of until now stays as PersistentVolume {old.volume}")
        kubernetes.retire(old, _UNBOUND)


def _words(failed: Mapping[str, str]) -> str:
    """Return what failed, each reason once."""
    paths: dict[str, list[str]] = {}
    for path, why in sorted(failed.items()):
        paths.setdefault(why, []).append(path)
    return "; ".join(f"{', '.join(ones)}: {why}" for why, ones in paths.items())


def _record(kept: Mapping[str, Any]) -> Record:
    claim = {**kept["claim"], "access_modes": tuple(kept["claim"]["access_modes"])}
    return Record(**{**kept, "claim": Claim(**claim)})


def _is_complete(snapshot: objects.Object | None, backup: Any) -> bool:
    ready = snapshot is not None and bool((snapshot.get("status") or {}).get("readyToUse"))
    return ready and bool(backup.status == "available")


def _error(snapshot: objects.Object | None) -> str:
    error = ((snapshot or {}).get("status") or {}).get("error") or {}
    return str(error.get("message", ""))


def _failure(snapshot: objects.Object | None, backup: Any, well_until: float, end: float) -> str:
    """Return why a backup will not come about; nothing while it still may."""
    now = time.monotonic()
    if snapshot is None:
        return "its VolumeSnapshot was removed meanwhile"
    if backup is not None and backup.status == "error":
        return f"Cinder could not make the backup: {backup.fail_reason or 'no reason is given'}"
    if backup is None and _error(snapshot) and now - well_until > _PATIENCE:
        return _error(snapshot)
    if now > end:
        state = f"its backup in Cinder is {backup.status}" if backup is not None else "Cinder has begun no backup"
        return f"not complete within backup.volumes.timeout_minutes: {state}. {_error(snapshot)}".strip()
    return ""
