"""etcd's programs on the Salt master, and a scratch etcd that shows what is in a snapshot."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from managed_k8s.artifacts import mirror, zstandard
from managed_k8s.config.settings import Settings
from managed_k8s.errors import Error
from managed_k8s.state.store import Store

PROGRAMS = ("etcd", "etcdctl", "etcdutl")
_IMAGE = "images/etcd.tar"
# Nobody listens there: the scratch etcd is its only member.
_NOWHERE = "http://127.0.0.1:1"
_START, _STOP, _LIMIT = 60, 10, 1800


class EtcdError(Error):
    """One of etcd's programs failed; the message has its words."""


def programs(store: Store, settings: Settings) -> Path:
    """Return a folder with the programs of the cluster's etcd version, from the mirror's image, by SHA-256.

    Raises MirrorError, ZstandardError.
    """
    found = mirror.artifacts(store, settings)
    digest = found["sums"][_IMAGE]
    folder = store.path(f"etcd/{digest}/x").parent
    if not _complete(folder):
        image = store.path("etcd/image.tar")
        mirror.download(f"{found['base']}/{_IMAGE}", digest, image)
        try:
            _unpack(image, folder)
        finally:
            image.unlink()
    return folder


def _unpack(image: Path, folder: Path) -> None:
    """Write the programs in an OCI archive's layers into a folder."""
    blob = image.with_name("blob")
    with tarfile.open(image) as archive:
        for member in archive:
            source = archive.extractfile(member) if member.isfile() else None
            if source is not None and not _complete(folder):
                with blob.open("wb") as target:
                    shutil.copyfileobj(source, target)
                _from_blob(blob, folder)
    blob.unlink(missing_ok=True)
    if not _complete(folder):
        raise mirror.MirrorError(f"{_IMAGE}: does not have {', '.join(PROGRAMS)} in it; build the mirror again")


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in PROGRAMS)


def _from_blob(blob: Path, folder: Path) -> None:
    with blob.open("rb") as file, contextlib.ExitStack() as stack:
        content: IO[bytes] = file
        if file.read(len(zstandard.MAGIC)) == zstandard.MAGIC:
            content = stack.enter_context(zstandard.unpacking(blob))
        else:
            file.seek(0)
        # A blob that is no layer is a configuration.
        with contextlib.suppress(tarfile.ReadError), tarfile.open(fileobj=content, mode="r|*") as layer:
            for member in layer:
                source = layer.extractfile(member) if member.isfile() else None
                if source is not None and (name := Path(member.name).name) in PROGRAMS:
                    part = folder / f".{name}"
                    part.touch(mode=0o700)
                    with part.open("wb") as target:
                        shutil.copyfileobj(source, target)
                    part.rename(folder / name)


def run(program: Path, *words: str | Path, cwd: Path | None = None) -> str:
    """Return what a program printed. Raises EtcdError."""
    try:
        done = subprocess.run(
            [program, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_LIMIT, cwd=cwd,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise EtcdError(f"{program.name}: did not end within {_LIMIT} seconds") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise EtcdError(f"{program.name} {words[0]}: {said[-1][:500] if said else f'exit code {done.returncode}'}")
    return done.stdout


def status(folder: Path, snapshot: Path) -> dict[str, Any]:
    """Return hash, revision, totalKey and totalSize of a snapshot. Raises EtcdError when it is damaged."""
    found: dict[str, Any] = json.loads(run(folder / "etcdutl", "snapshot", "status", snapshot, "--write-out", "json"))
    return found


@contextlib.contextmanager
def scratch(folder: Path, snapshot: Path, room: Path) -> Iterator[Callable[..., dict[str, Any]]]:
    """Run an etcd on a restored snapshot; give a function that asks it with etcdctl and returns its JSON.

    room: an empty folder that only its owner enters; etcd listens on sockets in it, and nowhere else. Raises EtcdError.
    """
    data = room / "data"
    # Its sockets' names are etcd's way to write unix addresses, relative to where it runs; paths may be too long.
    client, peer = "unix://client:0", "unix://peer:0"
    alone = ("--name", "scratch", "--initial-cluster", f"scratch={_NOWHERE}", "--initial-advertise-peer-urls", _NOWHERE)
    run(folder / "etcdutl", "snapshot", "restore", snapshot, "--data-dir", data, *alone)

    def ask(*words: str) -> dict[str, Any]:
        answer = json.loads(run(folder / "etcdctl", "--endpoints", client, *words, "--write-out", "json", cwd=room))
        return dict(answer[0] if isinstance(answer, list) else answer)

    with (room / "etcd.log").open("wb") as log:
        etcd = subprocess.Popen(
            [folder / "etcd", *alone, "--data-dir", data, "--listen-client-urls", client,
             "--advertise-client-urls", client, "--listen-peer-urls", peer, "--unsafe-no-fsync"],
            cwd=room, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            _await(etcd, ask, room)
            yield ask
        finally:
            etcd.terminate()
            try:
                etcd.wait(_STOP)
            except subprocess.TimeoutExpired:
                etcd.kill()
                etcd.wait()


def _await(etcd: subprocess.Popen[bytes], ask: Callable[..., dict[str, Any]], room: Path) -> None:
    end = time.monotonic() + _START
    while True:
        try:
            ask("endpoint", "health")
            return
        except EtcdError:
            if etcd.poll() is not None or time.monotonic() > end:
                last = (room / "etcd.log").read_text(errors="replace").strip().splitlines()[-1:]
                raise EtcdError(f"a scratch etcd does not start on the snapshot: {' '.join(last)[:500]}") from None
        time.sleep(0.2)
