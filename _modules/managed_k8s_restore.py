"""
A control plane node that is brought back: its certificates, etcd's database, kubeadm on both.

Each function can be run again after it was interrupted. What it replaces is set aside, and stays until `finish`. What a
backup holds comes over SSH into a folder that only root enters: it is in no argument, result or log.
"""

import base64
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from salt.exceptions import CommandExecutionError

_ROOT = Path("/var/lib/managed-k8s/restore")
_ASIDE = _ROOT / "manifests"
_KUBERNETES = Path("/etc/kubernetes")
_PKI = _KUBERNETES / "pki"
_MANIFESTS = _KUBERNETES / "manifests"
_MANAGED = Path("/etc/managed-k8s")
_ETCD = Path("/var/lib/etcd")
_KUBEADM, _ETCDCTL, _ETCDUTL = (f"/usr/local/bin/{name}" for name in ("kubeadm", "etcdctl", "etcdutl"))
_ENDPOINT = "https://127.0.0.1:2379"
_LOCK = Path("/run/managed-k8s-restore.lock")
_RESERVE = 256 << 20
_LIMIT = 900
# Revisions go on far beyond any that a client may know, and all before is compacted: whoever watches has to list anew
# (etcd, Disaster recovery: Restoring with revision bump). By the time, so that the same backup restored again goes on
# beyond what was written after the first restore, too: etcd writes fewer revisions a second than this.
_REVISIONS = 10_000
# Ends at once. An API server whose etcd is gone would take its whole grace of half a minute.
_ENDING = {
    "etcd": signal.SIGTERM,
    "kube-apiserver": signal.SIGKILL,
    "kube-controller-manager": signal.SIGKILL,
    "kube-scheduler": signal.SIGKILL,
}
# What all control planes of a cluster share; kubeadm makes the rest from it.
_AUTHORITIES = (
    "ca.crt", "ca.key", "etcd/ca.crt", "etcd/ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub",
)  # fmt: skip
# Certificate -> who signs it.
_SIGNED = {
    "apiserver": "ca", "apiserver-kubelet-client": "ca", "apiserver-etcd-client": "etcd/ca",
    "front-proxy-client": "front-proxy-ca", "etcd/server": "etcd/ca", "etcd/peer": "etcd/ca",
    "etcd/healthcheck-client": "etcd/ca",
}  # fmt: skip
_KUBECONFIGS = ("admin.conf", "controller-manager.conf", "scheduler.conf")


def _alone(function):
    """Let a function wait for one that an interrupted command left running here."""

    @functools.wraps(function)
    def alone(*args, **kwargs):
        with _LOCK.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return function(*args, **kwargs)

    return alone


def inspect():
    """Return what this server still is: kubeadm's state, etcd's data, quorum, revision, its certificates' faults.

    CLI Example: ``salt 'demo-*' managed_k8s_restore.inspect``
    """
    kubeadm = __salt__["managed_k8s_node.facts"]()["kubeadm"]
    found = {"kubeadm": kubeadm, "database": _database() is not None, "quorum": False, "revision": None, "index": 0}
    if __pillar__.get("managed_k8s", {}).get("role") != "master":
        return {**found, "certificates": []}
    with contextlib.suppress(CommandExecutionError, OSError, ValueError, KeyError):
        # Answered by this member alone, whether or not there is a leader.
        (answer,) = json.loads(_etcdctl("endpoint", "status", "--write-out", "json"))
        status = answer["Status"]
        found["quorum"] = bool(status.get("leader"))
        found["revision"], found["index"] = status["header"]["revision"], status["raftIndex"]
    return {**found, "certificates": _faults() if kubeadm in ("initialised", "joined") else []}


def _database():
    """Return etcd's file: where it is used, or where a restore that did not end has set it aside."""
    places = [*sorted(_ROOT.glob("restore-*/etcd"), reverse=True)]
    # What an interrupted restore made is not what it was made from.
    ended = not places or (places[0].parent / "restored").exists()
    places = [_ETCD, *places] if ended else places
    return next((file for place in places if (file := place / "member" / "snap" / "db").is_file()), None)


def _faults():
    """Return what is wrong with the control plane's certificates, keys and kubeconfigs."""
    faults = [f"{name} is missing or empty" for name in _AUTHORITIES if not _has_content(_PKI / name)]
    faults += [f"{name} is missing or empty" for name in _KUBECONFIGS if not _has_content(_KUBERNETES / name)]
    for name in ("ca", "etcd/ca", "front-proxy-ca"):
        faults += _fault(name, name)
    for name, signer in _SIGNED.items():
        faults += _fault(name, signer)
    with contextlib.suppress(OSError):
        try:
            public = serialization.load_pem_public_key((_PKI / "sa.pub").read_bytes())
            if _public(_key("sa").public_key()) != _public(public):
                faults.append("sa.pub is not that of sa.key")
        except ValueError:
            faults.append("sa.key or sa.pub cannot be read")
    return faults


def _has_content(path):
    return path.is_file() and path.stat().st_size > 0


def _fault(name, signer):
    try:
        certificate = x509.load_pem_x509_certificate((_PKI / f"{name}.crt").read_bytes())
        authority = x509.load_pem_x509_certificate((_PKI / f"{signer}.crt").read_bytes())
        certificate.verify_directly_issued_by(authority)
        if _public(_key(name).public_key()) != _public(certificate.public_key()):
            return [f"{name}.crt is not for {name}.key"]
    except FileNotFoundError as error:
        return [f"{Path(error.filename).relative_to(_PKI)} is missing"]
    except Exception:
        # Neither what is in a key nor a library's words for it belong into a result.
        return [f"{name}.crt or {name}.key is damaged, or not signed by {signer}.crt"]
    if certificate.not_valid_after_utc.timestamp() < time.time():
        return [f"{name}.crt ended {certificate.not_valid_after_utc:%Y-%m-%d}"]
    return []


def _key(name):
    return serialization.load_pem_private_key((_PKI / f"{name}.key").read_bytes(), None)


def _public(key):
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


# What came


@_alone
def check(restore_id):
    """Check what the Salt master sent for a restore, and that there is room for it. Nothing is changed.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    folder = _folder(restore_id)
    lacking = [name for name in _AUTHORITIES if not _has_content(folder / "pki" / name)]
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


def _sha256(file):
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _folder(restore_id):
    if not re.fullmatch(r"restore-[0-9T]+", restore_id):
        raise CommandExecutionError(f"{restore_id!r} is no restore's id")
    folder = _ROOT / restore_id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _ROOT.chmod(0o700)
    return folder


def _status(snapshot):
    return json.loads(_run(_ETCDUTL, "snapshot", "status", str(snapshot), "--write-out", "json"))


def _make_room(snapshot):
    size = snapshot.stat().st_size
    if shutil.disk_usage(_ETCD.parent).free < size + _RESERVE:
        raise CommandExecutionError(
            f"{_ETCD}: no room to restore {size >> 20} MB beside what is there; free space there"
        )


def runs(version):
    """Tell whether this master's control plane, and the kubeadm that would make it, are of a version of Kubernetes.

    CLI Example: ``salt demo-master-1 managed_k8s_restore.runs 1.36.3``
    """
    return _versions() == (version, version)


def _versions():
    """Return the versions of the API server, wherever its manifest is now, and of kubeadm's configuration."""
    manifests = [_MANIFESTS / "kube-apiserver.yaml", _ASIDE / "kube-apiserver.yaml"]
    return _version(manifests, r"image: \S+/kube-apiserver"), _version([_MANAGED / "kubeadm.yaml"], "kubernetesVersion")


def _version(files, before):
    text = next((file.read_text() for file in files if file.is_file()), "")
    found = re.search(rf"^\s*{before}: ?v([0-9.]+)$", text, re.MULTILINE)
    return found[1] if found else None


# Stopping


@_alone
def stand_down(restore_id):
    """Stop this master's control plane; its manifests and etcd's data are set aside, so it stays so over a reboot.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    _stand_down(restore_id)
    return True


def _stand_down(restore_id):
    before = _folder(restore_id) / "etcd"
    _systemctl("stop", "kubelet")
    _ASIDE.mkdir(mode=0o700, exist_ok=True)
    for manifest in sorted(_MANIFESTS.glob("*.yaml")):
        shutil.move(manifest, _ASIDE / manifest.name)
    _end_control_plane()
    # Once: what is there when this is done again is what this restore made.
    if _ETCD.is_dir() and not before.exists():
        shutil.move(_ETCD, before)


def _end_control_plane():
    """End the control plane's containers; nobody starts them again while the kubelet is stopped."""
    end = time.monotonic() + 20
    for pid, name in _control_plane():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, _ENDING[name])
    while left := _control_plane():
        if time.monotonic() > end:
            for pid, _ in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            end = time.monotonic() + 20
        time.sleep(0.1)


def _control_plane():
    """Return the control plane's processes: (number, name)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            name = Path(words[0]).name
            # Not an etcd that somebody runs in a pod of his own.
            if name in _ENDING and (name != "etcd" or f"--data-dir={_ETCD}" in words):
                found.append((int(folder.name), name))
    return found


# The database


@_alone
def restore(restore_id, server, own=False):
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
        _systemctl("start", "kubelet")
        _forget_others(server)
        _put_back("*.yaml")
        restored.touch()
    _systemctl("start", "kubelet")
    return _await_api()


def _follow_version():
    """Make the manifests by the kubeadm that is here, where they are of another version: those of an upgrade."""
    runs_now, wanted = _versions()
    if runs_now == wanted:
        return
    for phase in ("etcd local", "control-plane all"):
        _run(_KUBEADM, "init", "phase", *phase.split(), "--config", str(_MANAGED / "kubeadm.yaml"))
    for manifest in sorted(_MANIFESTS.glob("*.yaml")):
        shutil.move(manifest, _ASIDE / manifest.name)


def _put_back(pattern):
    for manifest in sorted(_ASIDE.glob(pattern)):
        if not (_MANIFESTS / manifest.name).exists():
            # Whole or not at all: the kubelet is looking.
            shutil.copy2(manifest, _ASIDE / f".{manifest.name}")
            (_ASIDE / f".{manifest.name}").rename(_MANIFESTS / manifest.name)


def _forget_others(server):
    """Take out of etcd, before anybody reads it, who led and served before, and an earlier server of this name.

    Nobody has to wait until leases of what is gone end, and the kubelet makes its own Node rather than take over one.
    """
    end = time.monotonic() + 120
    while True:
        try:
            _etcdctl("endpoint", "health")
            break
        except CommandExecutionError:
            if time.monotonic() > end:
                raise
        time.sleep(0.2)
    for prefix in ("/registry/masterleases/", "/registry/leases/kube-system/"):
        _etcdctl("del", "--prefix", prefix)
    key = f"/registry/minions/{__pillar__['managed_k8s']['name']}"
    for found in json.loads(_etcdctl("get", key, "--write-out", "json")).get("kvs", ()):
        node = base64.b64decode(found["value"])
        if b"openstack://" in node and server.encode() not in node:
            _etcdctl("del", key)
            __salt__["managed_k8s_node.forget_network"]()


def _argument(manifest, name):
    found = re.search(rf"^\s*- --{name}=(\S+)$", manifest, re.MULTILINE)
    if not found:
        raise CommandExecutionError(f"the manifest of etcd does not say its --{name}")
    return found[1]


def _build(database, name, peer, *more):
    """Make etcd's data folder from a database."""
    _status(database)
    _make_room(database)
    shutil.rmtree(_ETCD, ignore_errors=True)
    _ETCD.parent.mkdir(parents=True, exist_ok=True)
    _run(
        _ETCDUTL, "snapshot", "restore", str(database), "--data-dir", str(_ETCD), "--name", name,
        "--initial-cluster", f"{name}={peer}", "--initial-advertise-peer-urls", peer,
        "--bump-revision", str(int(time.time() * _REVISIONS)), "--mark-compacted", *more,
    )  # fmt: skip
    _ETCD.chmod(0o700)


def _install(folder):
    """Put the authorities and the key that Secrets are encrypted with where they belong; what is there is set aside."""
    before = folder / "pki-before"
    if _PKI.is_dir() and not before.exists():
        shutil.copytree(_PKI, before)
    for name in _AUTHORITIES:
        target = _PKI / name
        target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        shutil.copyfile(folder / "pki" / name, target)
        target.chmod(0o600 if name.endswith(".key") else 0o644)
    encryption = folder / "encryption.yaml"
    if encryption.is_file():
        target = _KUBERNETES / "managed-k8s" / "encryption.yaml"
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(encryption, target)
        target.chmod(0o600)


def _await_api(limit=180):
    """Wait for the API server here; return how many seconds that took."""
    begun = time.monotonic()
    while time.monotonic() - begun < limit:
        with contextlib.suppress(OSError):
            if _is_ready():
                return round(time.monotonic() - begun, 1)
        time.sleep(0.3)
    raise CommandExecutionError(f"the API server was not ready within {limit} seconds; see: journalctl -u kubelet")


def _is_ready():
    # Only whether it is ready is asked.
    context = ssl._create_unverified_context()  # noqa: S323
    with urllib.request.urlopen("https://127.0.0.1:6443/readyz", timeout=3, context=context) as answer:
        return answer.status == 200


@_alone
def initialise(restore_id, server):
    """Make this server a control plane on the database and with the authorities that were sent, by kubeadm.

    server: Nova's id of this server.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    folder = _folder(restore_id)
    restored = folder / "restored"
    if not restored.exists():
        if __salt__["managed_k8s_node.facts"]()["kubeadm"] != "none":
            __salt__["managed_k8s_node.reset"]()
        _install(folder)
        pillar = __pillar__["managed_k8s"]
        configuration = str(_MANAGED / "kubeadm.yaml")
        ignored = ",".join(["DirAvailable--var-lib-etcd", *pillar["settings"]["kubernetes"]["ignore_preflight_errors"]])
        _build(folder / "etcd.db", pillar["name"], f"https://{_address(pillar['virtual_ip'])}:2380")
        _run(_KUBEADM, "init", "phase", "preflight", "--config", configuration, "--ignore-preflight-errors", ignored)
        # etcd alone at first, to forget what must not be read.
        for phase in ("certs all", "kubeconfig all", "etcd local", "kubelet-start"):
            _run(_KUBEADM, "init", "phase", *phase.split(), "--config", configuration)
        _forget_others(server)
        # What kubeadm would apply to the cluster is in the database.
        done = "preflight,certs,kubeconfig,etcd,kubelet-start,bootstrap-token,addon,show-join-command"
        _run(_KUBEADM, "init", "--config", configuration, "--skip-token-print", "--skip-phases", done)
        (_MANAGED / "initialised").write_text("")
        restored.touch()
    return _await_api()


def _address(target):
    """Return this server's address on the way to another one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((target, 9))
        return probe.getsockname()[0]


def mark():
    """Mark this server's Node as a control plane's, as kubeadm does; done already is done.

    CLI Example: ``salt demo-master-1 managed_k8s_restore.mark``
    """
    _run(_KUBEADM, "init", "phase", "mark-control-plane", "--config", str(_MANAGED / "kubeadm.yaml"))
    return True


@_alone
def reset(restore_id):
    """Take this server out of what it was in, so that it can join what was restored; etcd's data stays set aside.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    _stand_down(restore_id)
    __salt__["managed_k8s_node.reset"]()
    return True


# Certificates


@_alone
def certificates(restore_id):
    """Make this control plane's certificates and kubeconfigs anew, from the authorities that were sent.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    folder = _folder(restore_id)
    _install(folder)
    for name in _SIGNED:
        for ending in ("crt", "key"):
            (_PKI / f"{name}.{ending}").unlink(missing_ok=True)
    configuration = str(_MANAGED / "kubeadm.yaml")
    _run(_KUBEADM, "init", "phase", "certs", "all", "--config", configuration)
    for name in (*_KUBECONFIGS, "kubelet.conf"):
        path = _KUBERNETES / name
        if name != "kubelet.conf" or not _has_content(path):
            # A kubelet's own certificate is renewed by itself, and not among these.
            path.unlink(missing_ok=True)
            _run(_KUBEADM, "init", "phase", "kubeconfig", name.removesuffix(".conf"), "--config", configuration)
    _systemctl("stop", "kubelet")
    _end_control_plane()
    _systemctl("start", "kubelet")
    return True


def await_api():
    """Wait until etcd and the API server here answer; return how many seconds that took.

    CLI Example: the Salt master's own, by ``salt-run managed_k8s.restore``
    """
    return _await_api()


def finish():
    """Remove what restores were given and what they set aside.

    CLI Example: ``salt 'demo-master-*' managed_k8s_restore.finish``
    """
    shutil.rmtree(_ROOT, ignore_errors=True)
    return True


# Programs


def _systemctl(*words):
    _run("systemctl", *words)


def _etcdctl(*words):
    pki = _PKI / "etcd"
    return _run(
        _ETCDCTL, "--endpoints", _ENDPOINT, "--cacert", f"{pki}/ca.crt", "--cert", f"{pki}/healthcheck-client.crt",
        "--key", f"{pki}/healthcheck-client.key", "--dial-timeout=2s", "--command-timeout=3s", *words,
    )  # fmt: skip


def _run(*words):
    """Run a program; raise its last lines. None of those that are run here prints a secret."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandExecutionError(f"{Path(words[0]).name}: {error}") from None
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-8:]
        raise CommandExecutionError(f"{Path(words[0]).name} {words[1]}: " + "\n".join(said)[-1500:])
    return done.stdout
