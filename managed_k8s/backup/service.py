"""Backups of one cluster: taken, listed, pruned, tried."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import secrets
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import filelock

from managed_k8s.artifacts import zstandard
from managed_k8s.artifacts.etcd_programs import EtcdError
from managed_k8s.artifacts.zstandard import ZstandardError
from managed_k8s.backup import drill, health, record, retention, schedule, upload
from managed_k8s.backup.digest import Seal
from managed_k8s.backup.record import Record
from managed_k8s.backup.repository import BorgError, Repository
from managed_k8s.backup.source_member import Member, NoMemberError, choose
from managed_k8s.config.settings import Settings
from managed_k8s.errors import Error
from managed_k8s.minions.jobs import Jobs
from managed_k8s.names import is_master
from managed_k8s.state import attempts, queue
from managed_k8s.state.attempts import attempting
from managed_k8s.state.history import History
from managed_k8s.state.store import Store
from managed_k8s.state.versions import WANTED

# What was attempted, and what later checks found; in the cluster's store.
BACKUPS, DRILLS = "backup.json", "drill.json"
# Of each backup that a drill tried, what it found wrong; nothing when it is proven.
TRIED = "backups_tried.json"
# The list of the last look, for when the repository is away.
LISTED = "backups.json"
LOCK = "backup.lock"
_MEMBER_LIMIT, _SEND_LIMIT = 30, 3600
# Bytes that stay free on a disk, beside what a backup takes: borg itself refuses to work with less than a segment's.
_RESERVE = 1 << 30
# Bytes that a database may grow by, beside its size, while a snapshot of it is asked for and taken.
_GROWTH = 256 << 20


class BackupError(Error):
    """A backup cannot be made or used; the message says why and what to do."""


# What may go wrong, with a message for people.
ERRORS = (BackupError, BorgError, EtcdError, NoMemberError, ZstandardError)


def lock(store: Store) -> filelock.FileLock:
    """Return the lock of a cluster's backups: one of the kernel's, so it dies with its process."""
    return filelock.FileLock(store.path(LOCK), mode=0o600)


class Backups:
    """Everything about one cluster's backups.

    store: the cluster's. vault: what outlives the cluster. programs: gives the folder with etcd's programs.
    """

    def __init__(
        self,
        opts: Mapping[str, Any],
        store: Store,
        vault: Store,
        settings: Settings,
        jobs: Jobs,
        history: History,
        programs: Callable[[], Path],
    ) -> None:
        self.opts, self.store, self.vault, self.jobs, self.history = opts, store, vault, jobs, history
        self.settings, self.programs = settings, programs
        location = settings.backup.repository or str(vault.folder / "repository")
        self.repository = Repository(location, vault)

    # Looking

    def records(self) -> list[Record]:
        """Return all backups in the repository, newest first. Raises BorgError."""
        found = self._records(self.repository.archives())
        self.store.write(LISTED, [dataclasses.asdict(one) for one in found])
        return found

    def listed(self) -> list[Record]:
        """Return the backups that there were at the last look, newest first; the repository is not asked."""
        return self._tried([Record(**kept) for kept in self.store.read(LISTED) or []])

    def _records(self, archives: list[dict[str, Any]]) -> list[Record]:
        found = [one for archive in archives if (one := record.read(archive))]
        return self._tried(sorted(found, key=lambda one: one.time, reverse=True))

    def _tried(self, found: list[Record]) -> list[Record]:
        tried = self.store.read(TRIED) or {}
        return [
            dataclasses.replace(one, proven=tried.get(one.name) == "", problem=tried.get(one.name, "")) for one in found
        ]

    def find(self, name: str | None) -> Record:
        """Return the backup with that name, or the newest good one. Raises BackupError, BorgError."""
        found = self.records()
        chosen = [one for one in found if one.name == name] if name else [one for one in found if one.good]
        if chosen:
            return chosen[0]
        if name is None:
            raise BackupError(f"{self.store.cluster}: there is no good backup in {self.repository.location}")
        near = ", ".join(one.name for one in found[:5]) or "none"
        raise BackupError(f"backup: there is no {name}; the newest are {near}; all: salt-run managed_k8s.backups")

    # Taking

    def take(self, reason: str) -> Record:
        """Take a backup now, and let go of those that the retention does not keep.

        Raises BackupError, BorgError, JobError, NoMemberError. To be called while lock() is held.
        """
        with attempting(self.store, self.history, BACKUPS, "backup", "made") as announce:
            made = self._take(reason, time.time())
            announce(
                f"{made.name} on {made.member}, revision {made.revision}",
                backup=made.name, revision=made.revision, size=made.size,
            )  # fmt: skip
        self.prune()
        return made

    def _take(self, reason: str, begun: float) -> Record:
        upload.clear(self.opts, self.store.cluster)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            members = pool.submit(self._members)
            # Meanwhile: is the repository there, and can it be opened?
            self._drop_unfinished(self.repository.archives())
            member = choose(members.result(), next((one.member for one in self.listed()), ""))
        self._make_room(member.size)
        # Salt takes arguments that look like numbers for numbers.
        ticket = f"ticket-{secrets.token_hex(16)}"
        with (
            upload.Landing(self.opts, member.name, ticket) as place,
            self.scratch() as folder,
            concurrent.futures.ThreadPoolExecutor(1) as pool,
        ):
            sending = pool.submit(self.jobs.run, member.name, "managed_k8s_backup.send", ticket, limit=_SEND_LIMIT)
            most = 2 * member.size + _GROWTH
            return self._archive(
                place, sending, folder, most, name=record.name(begun), time=begun, member=member.name, reason=reason
            )

    def _members(self) -> list[Member]:
        names = [name for name in self.jobs.accepted(self.store.cluster) if is_master(name)]
        answers = self.jobs.ask(names, "managed_k8s_backup.member", limit=_MEMBER_LIMIT)
        members = []
        for name in names:
            answer = answers.get(name)
            if answer is None:
                members.append(Member(name, problem="its minion does not answer"))
            elif not answer.ok or not isinstance(answer.value, Mapping):
                members.append(Member(name, problem=str(answer.value).strip()[:300]))
            else:
                members.append(Member(name, **{key: answer.value[key] for key in ("leader", "revision", "size")}))
        return members

    def _drop_unfinished(self, archives: list[dict[str, Any]]) -> None:
        self.repository.delete([one["name"] for one in archives if record.is_unfinished(one)])

    def _make_room(self, size: int) -> None:
        """See to it that a snapshot of this size fits where it arrives and where it stays. Raises BackupError."""
        places = [Path(self.opts["cachedir"]), self.vault.folder]
        if self.repository.folder:
            places.append(self.repository.folder)
        if _lacking(places, size):
            self.prune()
        if lacking := _lacking(places, size):
            raise BackupError(
                f"the disk of {lacking} has no room for a snapshot of {size >> 20} MB: free space, keep fewer backups "
                "(backup.retention), or move backup.repository"
            )

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Give a folder that is gone afterwards; one that a killed process left is removed first."""
        folder = self.vault.path("scratch/x").parent
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @staticmethod
    def _unpack(archive: Path, folder: Path, member: str) -> None:
        try:
            upload.unpack(archive, folder)
        except (tarfile.TarError, OSError) as error:
            raise BackupError(f"{member}: what it sent as its configuration is none: {error}") from None

    def _archive(
        self, place: upload.Landing, sending: concurrent.futures.Future[Any], folder: Path, most: int, **known: Any
    ) -> Record:
        """Archive what comes while it comes; most: bytes; known: of the record what is known before."""
        seal, name, member = Seal(), known["name"], known["member"]
        with self.repository.writing(name, upload.DATABASE, folder, upload.CONTENT) as archive:
            for block in _arriving(place, sending, member):
                seal.update(block)
                if seal.size > most:
                    raise BackupError(f"{member}: sends a snapshot of more than {most >> 20} MB, and has less")
                archive.write(block)
            self._unpack(place.configuration, folder, member)
            facts = _facts(member, folder)
            taken = facts.pop("seal")
            if not seal.is_whole or (seal.end, seal.size) != (taken, facts["size"]):
                raise BackupError(
                    f"{member}: the snapshot that arrived ({seal.size} bytes, ending with {seal.end}) "
                    f"is not the one that was taken ({facts['size']} bytes, {taken}), "
                    "or its end is not etcd's digest of it"
                )
            made = Record(**known, **facts, sha256=seal.sha256)
            archive.comment = made.comment()
        return made

    # Letting go

    def prune(self) -> list[str]:
        """Remove what the retention does not keep; return the names. Raises BorgError."""
        found = self.records()
        kept = retention.keep(found, self.settings.backup.retention.model_dump())
        # The way back from an upgrade.
        kept[(self.store.read(WANTED) or {}).get("backup", "")] = "before an upgrade"
        doomed = [one.name for one in found if one.name not in kept]
        if doomed:
            self.repository.delete(doomed)
            self.store.write(LISTED, [dataclasses.asdict(one) for one in found if one.name in kept])
            tried = self.store.read(TRIED) or {}
            self.store.write(TRIED, {name: why for name, why in tried.items() if name in kept})
        return doomed

    # Trying

    def verify(self, name: str | None = None) -> Record:
        """Restore a backup, the newest by default, into a scratch etcd here; return it.

        Raises BackupError when it is not good, BorgError when it cannot be asked. To be called while lock() is held.
        """
        chosen = self.find(name)
        attempt = attempting(self.store, self.history, DRILLS, "backup", "verified")
        with attempt as announce, self.scratch() as folder:
            # The snapshot, and the database that is made from it. A disk that fills up says nothing about a backup.
            if _lacking([folder, folder], chosen.size):
                raise BackupError(
                    f"the disk of {folder.parent} has no room to try {chosen.name}, which takes "
                    f"{2 * chosen.size >> 20} MB for a while, beside a gigabyte: free space"
                )
            problems = drill.run(self.repository, chosen, self.programs(), folder)
            self.store.write(TRIED, {**(self.store.read(TRIED) or {}), chosen.name: "; ".join(problems)})
            if problems:
                raise BackupError(f"{chosen.name} is not good: {'; '.join(problems)}")
            announce(f"{chosen.name}: a scratch etcd has its {chosen.count} keys at revision {chosen.revision}",
                     backup=chosen.name)  # fmt: skip
        return dataclasses.replace(chosen, proven=True, problem="")

    # The clock

    def state(self) -> dict[str, Any]:
        """Return the newest backup's name and what is wrong, from what is on record: the repository is not asked."""
        records, settings = self.listed(), self.settings.backup
        problems: list[str] = []
        if settings.enabled:
            busy = queue.is_held(self.store, LOCK)
            attempts = (self.attempts(BACKUPS).seen(busy), self.attempts(DRILLS).seen(busy))
            problems = health.problems(settings, records, *attempts, now=time.time())
        return {"newest": records[0].name if records else None, "problems": problems}

    def due(self, now: float) -> list[str]:
        """Return what is to be done now: `backup`, `drill`."""
        settings = self.settings.backup
        work = []
        if schedule.is_due(settings.schedule, self.attempts(BACKUPS), now):
            work.append("backup")
        if self.attempts(BACKUPS).done and schedule.is_due(settings.drill_schedule, self.attempts(DRILLS), now):
            work.append("drill")
        return work

    def attempts(self, what: str) -> attempts.Attempts:
        """Return what is on record about backups or drills."""
        return attempts.Attempts.of(self.store.read(what))


def _arriving(place: upload.Landing, sending: concurrent.futures.Future[Any], member: str) -> Iterator[bytes]:
    """Yield the snapshot while it comes. Raises BackupError, ZstandardError, and what ended the sending."""
    try:
        yield from zstandard.unpacked(place.pieces(sending))
    except (upload.LandingError, zstandard.DamagedError) as error:
        raise BackupError(f"{member}: the snapshot that arrived {error}") from None


def _lacking(folders: Sequence[Path], size: int) -> str:
    """Return the first of folders in which there is no room for so many bytes in each of them; empty if there is."""
    needs: dict[int, int] = {}
    for folder in folders:
        if (path := _existing(folder)) is not None:
            device = path.stat().st_dev
            needs[device] = needs.get(device, _RESERVE) + size
            if shutil.disk_usage(path).free < needs[device]:
                return str(folder)
    return ""


def _existing(path: Path) -> Path | None:
    """Return the path, or the nearest folder above it that is there."""
    return next((one for one in (path, *path.parents) if one.is_dir()), None)


def _facts(member: str, folder: Path) -> dict[str, Any]:
    """Return what the manifest that came with the configuration says. Raises BackupError."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        told = {key: manifest[key] for key in ("kubernetes", "etcd", "cluster_id", "seal", "canary")}
        numbers = {key: int(manifest[key]) for key in ("revision", "keys", "count", "hash", "size")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BackupError(f"{member}: its manifest cannot be read: {error!r}") from None
    return {key: str(value)[:100] for key, value in told.items()} | numbers
