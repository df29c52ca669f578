"""What a Salt master cannot make anew, in one file: keys, what is kept about clusters, passphrases, settings.

With it and the backups' repository another machine does everything that this one did.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from managed_k8s.errors import Error
from managed_k8s.state.store import BACKUPS

# Of the checkout: what an operator writes. Of the state: everything but what below is.
INPUT = ("cluster.map", "clouds.yaml", "pillar", "cloud.providers.d", "cloud.profiles.d")
# Salt's caches, sockets and logs; a process number; what is compared with the code.
_VOLATILE = ("var", "master.pid", "code.sha256")
# In a cluster's folder: programs from the mirror, notes that nobody acted on, joins that run; what processes leave.
_PASSING = ("etcd", "wakeups", "joins")
_OF_PROCESSES = (".lock", ".log", ".started")
# Beside the passphrase: borg's cache, what a drill unpacks, and the repository itself, which is large.
_OF_BACKUPS = ("borg", "scratch", "repository")


class PortableError(Error):
    """Nothing was written; the message says why and what to do."""


def save(root: Path, state: Path, file: Path) -> list[Path]:
    """Write the file, readable for its owner only; return the local repositories, which are not in it.

    root: the checkout. state: the Salt master's folder. Raises PortableError, OSError.
    """
    if not (state / "etc").is_dir():
        raise PortableError(f"{state}: there is no Salt master's state here")
    part = file.with_name(f".{file.name}.part")
    part.unlink(missing_ok=True)
    try:
        # From the start nobody else can read it.
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as target, tarfile.open(fileobj=target, mode="w:gz", dereference=True) as tar:
            for path in _input(root):
                tar.add(path, f"checkout/{path.relative_to(root)}", recursive=False)
            for path in _state(state):
                tar.add(path, f"state/{path.relative_to(state)}", recursive=False)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return sorted((state / BACKUPS).glob("*/repository"))


def _input(root: Path) -> Iterator[Path]:
    for name in INPUT:
        yield from _files(root / name)


def _state(state: Path) -> Iterator[Path]:
    for top in sorted(state.iterdir()):
        if top.name not in _VOLATILE:
            yield from (path for path in _files(top) if not _is_left_out(path.relative_to(state).parts))


def _is_left_out(parts: tuple[str, ...]) -> bool:
    kind, _, inside, *_ = (*parts, "", "")
    # Hidden ones are half written, or locks.
    if kind in (BACKUPS, "managed_k8s") and (parts[-1].startswith(".") or parts[-1].endswith(_OF_PROCESSES)):
        return True
    return inside in {BACKUPS: _OF_BACKUPS, "managed_k8s": _PASSING}.get(kind, ())


def _files(path: Path) -> Iterator[Path]:
    """Yield the files at or below a path; sockets and the like are none."""
    if path.is_file():
        yield path
    elif path.is_dir():
        for inside in sorted(path.iterdir()):
            yield from _files(inside)


def load(root: Path, state: Path, file: Path) -> None:
    """Put back what save() wrote, where there is no state yet; in the checkout it replaces what has the same name.

    Raises PortableError, OSError.
    """
    if state.is_dir() and any(state.iterdir()):
        raise PortableError(f"{state} is there already, and nothing of it is overwritten; move it away")
    try:
        with tarfile.open(file) as tar:
            members = tar.getmembers()
            if not any(member.name.startswith("state/etc/") for member in members):
                raise PortableError(f"{file}: is no export of a Salt master")
            state.mkdir(parents=True, exist_ok=True, mode=0o700)
            state.chmod(0o700)
            for member in members:
                top, _, name = member.name.partition("/")
                place = {"checkout": root, "state": state}.get(top)
                if place is not None:
                    _put(tar, member.replace(name=name, deep=False), place)
    except tarfile.TarError as error:
        raise PortableError(f"{file}: cannot be read: {error}") from None


def _put(tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path) -> None:
    # Nothing leads out.
    member = tarfile.data_filter(member, str(place))
    target = place / member.name
    if target.is_symlink():
        # clouds.yaml of a checkout may be a link to the operator's own.
        target.unlink()
    for folder in reversed(target.relative_to(place).parents[:-1]):
        if not (place / folder).is_dir():
            (place / folder).mkdir(mode=0o700)
    tar.extract(member, place, filter="data")
