"""A borg repository, through borg's own command line."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from managed_k8s.errors import Error
from managed_k8s.state.store import Store

PASSPHRASE = "passphrase"  # noqa: S105 (a file's name)
# location -> id of the repositories that there are.
KNOWN = "repositories.json"
_LOCK_WAIT = 60
# Pages of etcd's database keep their places, so blocks of a fixed length find the same ones again; several pages each.
_CHUNKER = "fixed,131072"
_STOP = 20
# Bytes that wait for borg; more are not allowed for everybody (/proc/sys/fs/pipe-max-size).
_PIPE = 1 << 20
# What a person does about an error that borg names.
_ADVICE = {
    "LockTimeout": "something else uses the repository, or was killed while it did; when nothing does: borg break-lock",
    "PassphraseWrong": "the repository was made with another passphrase than that in {passphrase}",
    "Repository.InvalidRepository": "backup.repository must lead to a borg repository or to where one can be made",
}
# Borg itself waits without end for a machine that says nothing any more.
_SSH = "ssh -o ServerAliveInterval=30 -o ServerAliveCountMax=4"
_FULL = ("No space left on device", "Insufficient free space")


class BorgError(Error):
    """Borg failed; the message says why and what to do. kind: borg's name of the error, like LockTimeout."""

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class Archive:
    """An archive that is being made. comment: what is known of it at the end."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self.comment = pipe, ""

    def write(self, piece: bytes) -> None:
        """Write the next piece of it."""
        self._pipe.write(piece)


class Repository:
    """Archives at one place.

    location: a path or URL as borg takes them. vault: keeps the passphrase, borg's cache, and which repositories there
    were. lock_wait: seconds to wait for another user of the repository.
    """

    def __init__(self, location: str, vault: Store, lock_wait: float = _LOCK_WAIT) -> None:
        self.location, self.vault, self.lock_wait = location, vault, lock_wait

    @property
    def folder(self) -> Path | None:
        """The local folder that it is in, or None when it is elsewhere."""
        return Path(self.location) if self.location.startswith("/") else None

    # Looking

    def archives(self) -> list[dict[str, Any]]:
        """Return name, id and comment of each archive, oldest first; the repository is made when there never was one.

        Raises BorgError.
        """
        try:
            found = json.loads(self._run("list", "--json", "--format", "{comment}{id}", self.location))
        except BorgError as error:
            if error.kind != "Repository.DoesNotExist" or self._known():
                raise
            self._init()
            return []
        self._recognise(found["repository"]["id"])
        return list(found["archives"])

    def _known(self) -> str | None:
        return (self.vault.read(KNOWN) or {}).get(self.location)

    def _recognise(self, identity: str) -> None:
        before = self._known()
        if before is None:
            self.vault.write(KNOWN, {**(self.vault.read(KNOWN) or {}), self.location: identity})
        elif before != identity:
            raise BorgError(
                f"{self.location}: is another repository than before (id {identity}, was {before}). If that is meant, "
                f"remove it from {self.vault.folder / KNOWN}"
            )

    def _init(self) -> None:
        if self.folder:
            self.folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._run("init", "--encryption", "repokey-blake2", self.location)
        self._recognise(json.loads(self._run("list", "--json", self.location))["repository"]["id"])

    # Changing

    @contextlib.contextmanager
    def writing(self, name: str, stdin_name: str, folder: Path, content: Sequence[str]) -> Iterator[Archive]:
        """Make an archive of what is written into what this gives, and of files that are there when the block ends.

        stdin_name: what the written is called in it. content: names in the folder. The archive has the comment
        that it was given once the block ended without an exception; until then it is not there or has none. Raises
        BorgError.
        """
        words = (
            "create", "--stdin-name", stdin_name, "--files-cache", "disabled", "--chunker-params", _CHUNKER,
            "--compression", "zstd,1", f"{self.location}::{name}", "-", *content,
        )  # fmt: skip
        with tempfile.TemporaryFile() as log, self._passphrase() as handle:
            borg = subprocess.Popen(
                self._command(words), stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=folder, pipesize=_PIPE,
                env=self._environment(handle), pass_fds=[handle],
            )  # fmt: skip
            assert borg.stdin is not None  # noqa: S101 (for the type checker)
            archive = Archive(borg.stdin)
            try:
                yield archive
                # Only now it goes on to the folder.
                borg.stdin.close()
                borg.wait()
            except BrokenPipeError:
                # It ended on its own; it says why.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    borg.wait(_STOP)
            finally:
                _stop(borg)
            # A warning is a file that was not read whole.
            if borg.returncode:
                raise self._error(_text(log))
        # Nothing is read or written for it but the list of pieces.
        comment = archive.comment.replace("{", "{{").replace("}", "}}")
        self._run("recreate", "--comment", comment, f"{self.location}::{name}")

    def delete(self, names: Sequence[str]) -> None:
        """Remove archives, and give back their space. Raises BorgError."""
        if names:
            self._run("delete", self.location, *names)
            self._run("compact", self.location)

    def extract(self, name: str, target: Path, *paths: str) -> None:
        """Write an archive's files, or some of them, into a folder. Raises BorgError.

        Each piece is authenticated by borg as it is read.
        """
        self._run("extract", f"{self.location}::{name}", *paths, cwd=target)

    # Borg

    def _run(self, *words: str, cwd: Path | None = None) -> str:
        with self._passphrase() as handle:
            done = subprocess.run(
                self._command(words), stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=cwd, check=False,
                env=self._environment(handle), pass_fds=[handle],
            )  # fmt: skip
        if done.returncode:
            raise self._error(done.stderr)
        return done.stdout

    def _command(self, words: Sequence[str]) -> list[str]:
        program = shutil.which("borg")
        if program is None:
            raise BorgError("borg is not installed on the Salt master: apt-get install borgbackup")
        return [program, "--log-json", "--lock-wait", f"{self.lock_wait:.0f}", *words]

    @contextlib.contextmanager
    def _passphrase(self) -> Iterator[int]:
        """Give a handle that borg reads the passphrase from: it is on no command line and in no environment."""
        if self.vault.read_text(PASSPHRASE) is None:
            self.vault.write_text(PASSPHRASE, secrets.token_urlsafe(32))
        handle = os.open(self.vault.path(PASSPHRASE), os.O_RDONLY)
        try:
            yield handle
        finally:
            os.close(handle)

    def _environment(self, handle: int) -> dict[str, str]:
        # Borg has a Python of its own.
        foreign = ("BORG_PASS", "BORG_REPO", "BORG_BASE_DIR", "PYTHON")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        kept.setdefault("BORG_RSH", _SSH)
        return kept | {
            "BORG_BASE_DIR": str(self.vault.path("borg")),
            "BORG_PASSPHRASE_FD": str(handle),
            # Which repository it is, is checked above; the Salt master's state may have moved.
            "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
            "LC_ALL": "C.UTF-8",
        }

    def _error(self, log: str) -> BorgError:
        """Return what borg said in its log: lines of JSON, or words."""
        said = [_line(line) for line in log.splitlines() if line.strip()]
        if any(text in line["message"] for line in said for text in _FULL):
            return BorgError(f"{self.location}: the disk is full: free space, or keep fewer backups", "Full")
        wrong = [line for line in said if line.get("levelname") in ("ERROR", "CRITICAL", "WARNING")] or said
        named = next((line for line in wrong if line.get("msgid")), wrong[0] if wrong else {"message": "borg failed"})
        kind = str(named.get("msgid") or "")
        advice = _ADVICE.get(kind, "").format(passphrase=self.vault.folder / PASSPHRASE)
        words = "; ".join(filter(None, (named["message"].strip().splitlines()[0], advice)))
        return BorgError(f"{self.location}: {words}", kind)


def _line(line: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found: Mapping[str, Any] = json.loads(line)
        if isinstance(found, dict) and isinstance(found.get("message"), str):
            return found
    return {"message": line}


def _text(log: IO[bytes]) -> str:
    log.seek(0)
    return log.read().decode(errors="replace")


def _stop(borg: subprocess.Popen[bytes]) -> None:
    """End a borg that still runs, without an archive: what it did not commit is not there."""
    if borg.poll() is None:
        # Before it reads the end of the pipe as the end of the data.
        borg.kill()
        borg.wait()
    with contextlib.suppress(OSError):
        if borg.stdin:
            borg.stdin.close()
