"""
A control plane node that is brought back: its certificates, etcd's database, kubeadm on both.

Each function can be run again after it was interrupted. What it replaces is set aside, and stays until `finish`. What a
backup holds comes over SSH into a folder that only root enters: it is in no argument, result or log.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import importlib
import json
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import managed_k8s_common as common
from salt.exceptions import CommandExecutionError

importlib.reload(common)
__pillar__: dict[str, Any]
__salt__: dict[str, Any]
P = ParamSpec("P")
T = TypeVar("T")

_ROOT = Path("/var/lib/managed-k8s/restore")
_ASIDE = _ROOT / "manifests"
_ETCDUTL = str(common.PROGRAMS / "etcdutl")
_LOCK = Path("/run/managed-k8s-restore.lock")
_LIMIT = 900
# Revisions go on far beyond any that a client may know, and all before is compacted: whoever watches has to list anew
# (etcd, Disaster recovery: Restoring with revision bump). By the time, so that the same backup restored again goes on
# beyond what was written after the first restore, too: etcd writes fewer revisions a second than this.
_REVISIONS = 10_000


def __virtual__() -> bool | tuple[bool, str]:
    return common.is_supported()


def _alone(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function wait for one that an interrupted command left running here."""

    @functools.wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> T:
        with _LOCK.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return function(*args, **kwargs)

    return alone


def inspect() -> dict[str, Any]:
    """Return what this server still is: kubeadm's state, etcd's data, quorum, revision, its certificates' faults.

    CLI Example: ``salt 'demo-*' managed_k8s_restore.inspect``
    """
    kubeadm = __salt__["managed_k8s_kubeadm.state"]()
    found = {"kubeadm": kubeadm, "database": _database() is not None, "quorum": False, "revision": None, "index": 0}
    if __pillar__.get("managed_k8s", {}).get("role") != "master":
        return {**found, "certificates": []}
    with contextlib.suppress(CommandExecutionError, OSError, ValueError, KeyError):
        # Answered by this member alone, whether or not there is a leader.
        (answer,) = json.loads(common.etcdctl("endpoint", "status", "--write-out=json"))
        status = answer["Status"]
        found["quorum"] = bool(status.get("leader"))
        found["revision"], found["index"] = status["header"]["revision"], status["raftIndex"]
    return {
        **found,
        "certificates": __salt__["managed_k8s_pki.faults"]() if kubeadm in ("initialised", "joined") else [],
    }


def _database() -> Path | None:
    """Return etcd's file: where it is used, or where a restore that did not end has set it aside."""
    places = [*sorted(_ROOT.glob("restore-*/etcd"), reverse=True)]
    # What an interrupted restore made is not what it was made from.
    ended = not places or (places[0].parent / "restored").exists()
    places = [common.ETCD_DATA, *places] if ended else places
    return next((file for place in places if (file := place / "member" / "snap" / "db").is_file()), None)


# What came


@_alone
def check(restore_id: str) -> bool:
    """Check what the Salt master sent for a restore, and that there is room for it. Nothing is changed.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    folder = _folder(restore_id)
    pki = folder / "pki"
    lacking = [name for name in common.AUTHORITIES if not ((pki / name).is_file() and (pki / name).stat().st_size)]
    if lacking:
        raise CommandExecutionError(f"what came lacks {', '.join(lacking)}")
    snapshot = folder / "etcd.db"
    if not snapshot.is_file():
        return True
    about = json.loads((folder / "about.json").read_text())
    found = {"size": snapshot.stat().st_size, "sha256": _sha256(snapshot)}
    # A program is asked only about what is known to be ours.
    if found == {key: about[key] for key in found}:
        found["hash"] = _status(snapshot)["hash"]
    if found != about:
        raise CommandExecutionError(f"the database that came is not the one that was sent: {found}, not {about}")
    _make_room(snapshot)
    return True


def _sha256(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _folder(restore_id: str) -> Path:
    if not re.fullmatch(r"restore-[0-9T]+", restore_id):
        raise CommandExecutionError(f"{restore_id!r} is no restore's id")
    folder = _ROOT / restore_id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _ROOT.chmod(0o700)
    return folder


def _status(snapshot: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(
        common.run(_ETCDUTL, "snapshot", "status", str(snapshot), "--write-out=json", limit=_LIMIT)
    )
    return status


def _make_room(snapshot: Path) -> None:
    size = snapshot.stat().st_size
    if shutil.disk_usage(common.ETCD_DATA.parent).free < size + common.RESERVE:
        raise CommandExecutionError(
            f"{common.ETCD_DATA}: no room to restore {size >> 20} MB beside what is there; free space there"
        )


def runs(version: str) -> bool:
    """Tell whether this master's control plane, and the kubeadm that would make it, are of a version of Kubernetes.

    CLI Example: ``salt demo-master-1 managed_k8s_restore.runs 1.36.3``
    """
    return _versions() == (version, version)


def _versions() -> tuple[str | None, str | None]:
    """Return the versions of the API server, wherever its manifest is now, and of kubeadm's configuration."""
    manifests = [common.MANIFESTS / "kube-apiserver.yaml", _ASIDE / "kube-apiserver.yaml"]
    return _version(manifests, r"image: \S+/kube-apiserver"), _version(
        [common.MANAGED / "kubeadm.yaml"], "kubernetesVersion"
    )


def _version(files: list[Path], before: str) -> str | None:
    text = next((file.read_text() for file in files if file.is_file()), "")
    found = re.search(rf"^\s*{before}: ?v([0-9.]+)$", text, re.MULTILINE)
    return found[1] if found else None


# Stopping


@_alone
def stand_down(restore_id: str) -> bool:
    """Stop this master's control plane; its manifests and etcd's data are set aside, so it stays so over a reboot.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    _stand_down(restore_id)
    return True


def _stand_down(restore_id: str) -> None:
    before = _folder(restore_id) / "etcd"
    common.systemctl("stop", "kubelet")
    _ASIDE.mkdir(mode=0o700, exist_ok=True)
    for manifest in sorted(common.MANIFESTS.glob("*.yaml")):
        shutil.move(manifest, _ASIDE / manifest.name)
    __salt__["managed_k8s_control_plane.end_processes"]()
    # Once: what is there when this is done again is what this restore made.
    if common.ETCD_DATA.is_dir() and not before.exists():
        shutil.move(common.ETCD_DATA, before)


# The database


@_alone
def restore(restore_id: str, server: str, own: bool = False) -> float:
    """Start this master's control plane on a restored database, as etcd's only member.

    server: Nova's id of this server. own: whether the database is the one that this master has, rather than the one
    that was sent.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    folder = _folder(restore_id)
    restored = folder / "restored"
    if not restored.exists():
        _stand_down(restore_id)
        arguments = (_ASIDE / "etcd.yaml").read_text() if (_ASIDE / "etcd.yaml").is_file() else ""
        name = _argument(arguments, "name")
        peer = _argument(arguments, "initial-advertise-peer-urls")
        if own:
            # etcd ended well, so all that it had is in this file; it has no digest at its end as a snapshot has.
            database = _database()
            if database is None:
                raise CommandExecutionError("there is no database here any more; name a backup: backup=")
            _build(database, name, peer, "--skip-hash-check")
        else:
            _build(folder / "etcd.db", name, peer)
            _install(folder)
            _follow_version()
        _put_back("etcd.yaml")
        common.systemctl("start", "kubelet")
        __salt__["managed_k8s_etcd.forget_others"](server)
        _put_back("*.yaml")
        restored.touch()
    common.systemctl("start", "kubelet")
    return float(__salt__["managed_k8s_control_plane.await_api"]())


def _follow_version() -> None:
    """Make the manifests by the kubeadm that is here, where they are of another version: those of an upgrade."""
    runs_now, wanted = _versions()
    if runs_now == wanted:
        return
    for phase in ("etcd local", "control-plane all"):
        common.kubeadm_phase(phase)
    for manifest in sorted(common.MANIFESTS.glob("*.yaml")):
        shutil.move(manifest, _ASIDE / manifest.name)


def _put_back(pattern: str) -> None:
    for manifest in sorted(_ASIDE.glob(pattern)):
        if not (common.MANIFESTS / manifest.name).exists():
            # Whole or not at all: the kubelet is looking.
            shutil.copy2(manifest, _ASIDE / f".{manifest.name}")
            (_ASIDE / f".{manifest.name}").rename(common.MANIFESTS / manifest.name)


def _argument(manifest: str, name: str) -> str:
    found = re.search(rf"^\s*- --{name}=(\S+)$", manifest, re.MULTILINE)
    if not found:
        raise CommandExecutionError(f"the manifest of etcd does not say its --{name}")
    return found[1]


def _build(database: Path, name: str, peer: str, *more: str) -> None:
    """Make etcd's data folder from a database."""
    _status(database)
    _make_room(database)
    shutil.rmtree(common.ETCD_DATA, ignore_errors=True)
    common.ETCD_DATA.parent.mkdir(parents=True, exist_ok=True)
    common.run(
        _ETCDUTL, "snapshot", "restore", str(database), "--data-dir", str(common.ETCD_DATA), "--name", name,
        "--initial-cluster", f"{name}={peer}", "--initial-advertise-peer-urls", peer,
        "--bump-revision", str(int(time.time() * _REVISIONS)), "--mark-compacted", *more, limit=_LIMIT,
    )  # fmt: skip
    common.ETCD_DATA.chmod(0o700)


def _install(folder: Path) -> None:
    """Put the authorities and the key that Secrets are encrypted with where they belong; what is there is set aside."""
    before = folder / "pki-before"
    if common.PKI.is_dir() and not before.exists():
        shutil.copytree(common.PKI, before)
    for name in common.AUTHORITIES:
        target = common.PKI / name
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copyfile(folder / "pki" / name, target)
        target.chmod(0o600 if name.endswith(".key") else 0o644)
    encryption = folder / "encryption.yaml"
    if encryption.is_file():
        target = common.KUBERNETES / "managed-k8s" / "encryption.yaml"
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(encryption, target)
        target.chmod(0o600)


@_alone
def initialise(restore_id: str, server: str) -> float:
    """Make this server a control plane on the database and with the authorities that were sent, by kubeadm.

    server: Nova's id of this server.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    folder = _folder(restore_id)
    restored = folder / "restored"
    if not restored.exists():
        if __salt__["managed_k8s_kubeadm.state"]() != "none":
            __salt__["managed_k8s_kubeadm.reset"]()
        _install(folder)
        pillar = __pillar__["managed_k8s"]
        ignored = ",".join(["DirAvailable--var-lib-etcd", *pillar["settings"]["kubernetes"]["ignore_preflight_errors"]])
        _build(folder / "etcd.db", pillar["name"], f"https://{_address(pillar['virtual_ip'])}:2380")
        common.kubeadm_phase("preflight", "--ignore-preflight-errors", ignored)
        # etcd alone at first, to forget what must not be read.
        for phase in ("certs all", "kubeconfig all", "etcd local", "kubelet-start"):
            common.kubeadm_phase(phase)
        __salt__["managed_k8s_etcd.forget_others"](server)
        # What kubeadm would apply to the cluster is in the database.
        done = "preflight,certs,kubeconfig,etcd,kubelet-start,bootstrap-token,addon,show-join-command"
        configuration = str(common.MANAGED / "kubeadm.yaml")
        common.kubeadm("init", "--config", configuration, "--skip-token-print", "--skip-phases", done, limit=_LIMIT)
        (common.MANAGED / "initialised").write_text("")
        restored.touch()
    return float(__salt__["managed_k8s_control_plane.await_api"]())


def _address(target: str) -> str:
    """Return this server's address on the way to another one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((target, 9))
        return str(probe.getsockname()[0])


@_alone
def reset(restore_id: str) -> bool:
    """Take this server out of what it was in, so that it can join what was restored; etcd's data stays set aside.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    _stand_down(restore_id)
    __salt__["managed_k8s_kubeadm.reset"]()
    return True


# Certificates


@_alone
def certificates(restore_id: str) -> bool:
    """Make this control plane's certificates and kubeconfigs anew, from the authorities that were sent.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    folder = _folder(restore_id)
    _install(folder)
    __salt__["managed_k8s_pki.make_anew"]()
    common.systemctl("stop", "kubelet")
    __salt__["managed_k8s_control_plane.end_processes"]()
    common.systemctl("start", "kubelet")
    return True


def finish() -> bool:
    """Remove what restores were given and what they set aside.

    CLI Example: ``salt 'demo-master-*' managed_k8s_restore.finish``
    """
    shutil.rmtree(_ROOT, ignore_errors=True)
    return True
