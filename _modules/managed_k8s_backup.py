"""
etcd on a control plane node: what it is like, and a snapshot of it for the Salt master.

What is sent goes over the minion's own encrypted channel, into a folder that the Salt master keeps for this minion
and this backup. Nothing stays here, and nothing here can read what was sent before.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import io
import json
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import managed_k8s_common as common
import salt.channel.client
import yaml
from salt.exceptions import CommandExecutionError

importlib.reload(common)
__opts__: dict[str, Any]

_ETCDUTL = str(common.PROGRAMS / "etcdutl")
_WORK = Path("/var/lib/managed-k8s/backup")
# What a control plane is made from again: name in the backup -> where it is here.
_CONFIGURATION = {
    "kubernetes/pki": common.PKI,
    "kubernetes/managed-k8s": common.KUBERNETES / "managed-k8s",
    "kubernetes/manifests": common.MANIFESTS,
    "managed-k8s/kubeadm.yaml": common.MANAGED / "kubeadm.yaml",
}
# Where the Salt master expects it, and the packed database in pieces of _PIECE: managed_k8s/backup/upload.py
_FOLDER, _ARCHIVE, _DATABASE = "managed-k8s-backup", "configuration.tar", "etcd.db"
# managed_k8s/backup/drill.py looks for it.
_CANARY = "managed-k8s/canary"
_LIMIT = 1800
# Bytes that a message to the Salt master carries.
_PIECE = 2 << 20
# A database is small when packed, and each message is enciphered once and opened twice.
_PACK = ("zstd", "-1", "--single-thread", "--quiet", "--stdout")
# Bytes in a pipe to or from it, and that are read at once; more are not allowed for everybody.
_BLOCK = 1 << 20
# Messages under way at once: while the Salt master opens one, the next is sealed here.
_LANES = 2
# Seconds between looks at a snapshot that grows; bytes of the digest at its end.
_LOOK, _SEAL = 0.02, 32


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def member() -> dict[str, Any]:
    """Return what this node's etcd is like: leader, revision, size of its database in bytes, id of its cluster.

    It is an error when it can give no snapshot: it has no quorum, or this disk no room.

    CLI Example: ``salt 'demo-master-*' managed_k8s_backup.member``
    """
    # Needs an answer of the majority: a member that lost it has old data.
    common.etcdctl("endpoint", "health")
    status = _asked("endpoint", "status")["Status"]
    header = status["header"]
    # One that has none is no reason to have no backup: another member may.
    _refuse_without_room(_WORK.parents[1], status["dbSize"])
    return {
        "leader": status["leader"] == header["member_id"],
        "revision": header["revision"],
        "size": status["dbSize"],
        "version": status["version"],
        "cluster_id": f"{header['cluster_id']:x}",
    }


def send(ticket: str) -> dict[str, Any]:
    """Send a snapshot of etcd while it is taken, check it, and send the control plane's keys and configuration.

    ticket: what the Salt master calls this backup; it takes nothing under another name. Returns what is in it.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.backup``
    """
    # What runs or was killed here, nobody waits for any more: the Salt master asks for one at a time.
    shutil.rmtree(_WORK, ignore_errors=True)
    folder = _WORK / ticket
    folder.mkdir(mode=0o700, parents=True)
    try:
        manifest = _snapshot(folder / _DATABASE, ticket)
        archive = folder / _ARCHIVE
        _pack(archive, manifest)
        _push(archive, ticket)
        return manifest
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            _WORK.rmdir()


def _refuse_without_room(folder: Path, size: int) -> None:
    if shutil.disk_usage(folder).free < size + common.RESERVE:
        raise CommandExecutionError(f"{folder}: no room for a snapshot of {size >> 20} MB; free space there")


def _snapshot(file: Path, ticket: str) -> dict[str, Any]:
    about = member()
    common.etcdctl("put", _CANARY, ticket)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        saved = pool.submit(common.etcdctl, "snapshot", "save", str(file), timeout=None, limit=_LIMIT)
        checked = pool.submit(_checked, file, saved)
        _push_pieces(file, ticket, _packed(_growing(file, saved)))
        return {
            "kubernetes": _kubernetes(),
            "etcd": about["version"],
            "cluster_id": about["cluster_id"],
            "canary": ticket,
            **checked.result(),
        }


def _checked(file: Path, saved: Future[str]) -> dict[str, Any]:
    """Return what a snapshot is, once it is there. `seal` is the digest of the rest that etcdctl put at its end."""
    saved.result()
    _read_through(file)
    status = json.loads(common.run(_ETCDUTL, "snapshot", "status", str(file), "--write-out=json", limit=_LIMIT))
    revision = status["revision"]
    counted = _asked("get", "", "--prefix", "--keys-only", "--limit=1", f"--rev={revision}")
    with file.open("rb") as source:
        size = source.seek(0, io.SEEK_END)
        source.seek(-_SEAL, io.SEEK_END)
        seal = source.read().hex()
    return {
        "revision": revision,
        "keys": status["totalKey"],
        "count": counted["count"],
        "hash": status["hash"],
        "size": size,
        "seal": seal,
    }


def _read_through(file: Path) -> None:
    """Have a file in memory again. A control plane's is full, and etcdutl reads page by page, in an order of its own.

    bbolt maps its file with MADV_RANDOM, so that the kernel reads nothing ahead.
    """
    with file.open("rb", buffering=0) as source:
        while source.read(_PIECE):
            pass


def _growing(file: Path, saved: Future[str]) -> Iterator[bytes]:
    """Yield the blocks of a snapshot while etcdctl writes it, under another name until it is whole.

    The name is from etcd's client/v3/snapshot/v3_snapshot.go.
    """
    part = file.with_name(f"{file.name}.part")
    while not (part.exists() or saved.done()):
        time.sleep(_LOOK)
    try:
        source = part.open("rb", buffering=0)
    except FileNotFoundError:
        saved.result()
        source = file.open("rb", buffering=0)
    with source:
        while True:
            # Asked first: what came before the end is read after it.
            ended = saved.done()
            if block := source.read(_BLOCK):
                yield block
            elif ended:
                saved.result()
                return
            else:
                time.sleep(_LOOK)


def _packed(blocks: Iterable[bytes]) -> Generator[bytes]:
    """Yield the pieces of what blocks are when packed, each of _PIECE but the last. Raises what the blocks raise."""
    with (
        _packing() as program,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        # Before the thread is waited for: it may write to a program that nobody reads from any more.
        contextlib.ExitStack() as stack,
    ):
        stack.callback(program.kill)
        feeding = pool.submit(_feed, program, blocks)
        assert program.stdout  # noqa: S101 (a pipe, by _packing)
        while len(piece := program.stdout.read(_PIECE)) == _PIECE:
            yield piece
        # Nothing is the last one before all went well.
        feeding.result()
        if program.wait():
            raise CommandExecutionError(f"zstd: ended with exit code {program.returncode}")
        yield piece


def _packing() -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    try:
        return subprocess.Popen(_PACK, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, pipesize=_BLOCK)
    except FileNotFoundError:
        raise CommandExecutionError("zstd is not installed here; state.apply installs it") from None


def _feed(program: subprocess.Popen[bytes], blocks: Iterable[bytes]) -> None:
    # One that ended early says so by its exit code.
    assert program.stdin  # noqa: S101 (a pipe, by _packing)
    with contextlib.suppress(BrokenPipeError), program.stdin as pipe:
        for block in blocks:
            pipe.write(block)


def _kubernetes() -> str:
    """Return the version that runs here; what the pillar says is as old as the minion's start."""
    image = yaml.safe_load((common.MANIFESTS / common.API_SERVER).read_text())["spec"]["containers"][0]["image"]
    return str(image).rpartition(":")[2].removeprefix("v")


def _pack(archive: Path, manifest: dict[str, Any]) -> None:
    archive.touch(mode=0o600)
    with tarfile.open(archive, "w") as tar:
        for name, path in _CONFIGURATION.items():
            tar.add(path, name)
        text = json.dumps(manifest, indent=1, sort_keys=True).encode()
        entry = tarfile.TarInfo("manifest.json")
        entry.size, entry.mode = len(text), 0o600
        tar.addfile(entry, io.BytesIO(text))


def _push(file: Path, ticket: str) -> None:
    """Send a file. Like cp.push, in pieces large enough for gigabytes, and an error is one."""
    opts = dict(__opts__)
    with _channel(opts) as channel, file.open("rb") as source:
        while piece := source.read(_PIECE):
            _send(channel, opts["id"], file, [ticket, file.name], piece, source.tell() - len(piece))


def _push_pieces(file: Path, ticket: str, pieces: Generator[bytes]) -> None:
    """Send the pieces of a file that grows, each as a file of its own: several are under way at once."""
    opts, numbered, turn, failed = dict(__opts__), enumerate(pieces), threading.Lock(), threading.Event()

    def lane() -> None:
        with _channel(opts) as channel:
            while not failed.is_set():
                with turn:
                    number, piece = next(numbered, (0, b""))
                if not piece:
                    return
                _send(channel, opts["id"], file, [ticket, file.name, f"{number:06d}"], piece)

    def guarded() -> None:
        try:
            lane()
        except BaseException:
            failed.set()
            raise

    with contextlib.closing(pieces), concurrent.futures.ThreadPoolExecutor(_LANES) as pool:
        for done in [pool.submit(guarded) for _ in range(_LANES)]:
            done.result()


def _channel(opts: dict[str, Any]) -> Any:
    return salt.channel.client.ReqChannel.factory(opts)


def _send(channel: Any, minion: str, file: Path, path: list[str], piece: bytes, begin: int = 0) -> None:
    """Send a piece of a file to a path below the backups' folder, where it begins at a byte."""
    if not file.parent.exists():
        raise CommandExecutionError(f"{file.name}: another backup began meanwhile")
    load = {"cmd": "_file_recv", "id": minion, "path": [_FOLDER, *path], "loc": begin, "data": piece}
    if not channel.send(load):
        raise CommandExecutionError(
            f"the Salt master does not take {'/'.join(path[1:])}: it needs file_recv: True, as in "
            f"master.d/managed-k8s.conf, and a file_recv_max_size of more than {(begin + len(piece)) >> 20}"
        )


def _asked(*words: str) -> Any:
    answer = json.loads(common.etcdctl(*words, "--write-out=json"))
    return answer[0] if isinstance(answer, list) else answer
