"""
What the execution modules share: where things are on a server, and how programs are run.

Not named ``managed_k8s``: the Salt master's package has that name. Modules import this one, so that its types are
checked, and reload it: what Python imported once stays in a minion's memory when a newer file has been synced.
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from salt.exceptions import CommandExecutionError

KUBERNETES = Path("/etc/kubernetes")
PKI = KUBERNETES / "pki"
MANIFESTS = KUBERNETES / "manifests"
API_SERVER = "kube-apiserver.yaml"
KUBELET = Path("/var/lib/kubelet")
ETCD_DATA = Path("/var/lib/etcd")
MANAGED = Path("/etc/managed-k8s")
VOLATILE = Path("/run/managed-k8s")
PROGRAMS = Path("/usr/local/bin")
API_PORT = 6443
CRI_SOCKET = "unix:///run/containerd/containerd.sock"
# The control plane's kubeconfigs; kubeadm makes them.
KUBECONFIGS = ("admin.conf", "controller-manager.conf", "scheduler.conf")
# What all control planes of a cluster share; kubeadm makes the rest from it. Also in managed_k8s/restore/plan.py.
AUTHORITIES = (
    "ca.crt", "ca.key", "etcd/ca.crt", "etcd/ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "sa.pub",
)  # fmt: skip
# Bytes that stay free on a disk that gets a copy of etcd's database.
RESERVE = 256 << 20

_SECRET = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}|\b[0-9a-f]{64}\b")
_LINES, _CHARACTERS = 12, 2000


def is_supported() -> bool | tuple[bool, str]:
    """Tell whether this machine can be a server of a cluster, as ``__virtual__`` of a module does."""
    return sys.platform == "linux" or (False, "servers of a cluster run Linux: its programs and /proc are needed")


def redact(text: str) -> str:
    """Return a text without what looks like a bootstrap token or a key."""
    return _SECRET.sub("(secret)", text)


def run(*words: str, limit: float, env: Mapping[str, str] | None = None, check: bool = True) -> str:
    """Run a program and return what it printed.

    limit: seconds after which it is killed. check: whether an exit code other than 0 is an error.
    Raises CommandExecutionError with the program's last lines, without what looks like a secret.
    """
    label = redact(" ".join([Path(words[0]).name, *[word for word in words[1:] if not word.startswith("-")][:2]]))
    started = time.monotonic()
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit, env=env, check=False)
    except FileNotFoundError:
        raise CommandExecutionError(f"{Path(words[0]).name} is not installed here; state.apply installs it") from None
    except subprocess.TimeoutExpired:
        raise CommandExecutionError(f"{label}: did not end within {limit} seconds") from None
    except OSError as error:
        raise CommandExecutionError(f"{label}: {error}") from None
    if check and done.returncode:
        lines = redact(f"{done.stdout}\n{done.stderr}").strip().splitlines()[-_LINES:]
        took = time.monotonic() - started
        raise CommandExecutionError(f"{label} failed after {took:.0f} s:\n" + "\n".join(lines)[-_CHARACTERS:])
    return done.stdout


def kubeadm(*words: str, limit: float = 600) -> str:
    """Run the kubeadm of the version that this server runs, as `run` does."""
    return run(str(PROGRAMS / "kubeadm"), *words, limit=limit)


def kubeadm_phase(phase: str, *words: str) -> str:
    """Run a phase of `kubeadm init`, with the configuration that states wrote."""
    return kubeadm("init", "phase", *phase.split(), "--config", str(MANAGED / "kubeadm.yaml"), *words)


def systemctl(*words: str) -> None:
    """Run systemctl, as `run` does."""
    run("systemctl", *words, limit=120)


def etcdctl(*words: str, timeout: int | None = 5, limit: float = 60, check: bool = True) -> str:
    """Run etcdctl on this server's member, as `run` does.

    timeout: seconds that etcd may take for a request; None is etcdctl's default, which for snapshots is none.
    """
    pki = PKI / "etcd"
    return run(
        str(PROGRAMS / "etcdctl"), "--endpoints=https://127.0.0.1:2379", f"--cacert={pki}/ca.crt",
        f"--cert={pki}/healthcheck-client.crt", f"--key={pki}/healthcheck-client.key",
        *([] if timeout is None else [f"--command-timeout={timeout}s"]), *words, limit=limit, check=check,
    )  # fmt: skip


def until(is_done: Callable[[], object], seconds: float, pause: float = 1) -> bool:
    """Wait until something is so; return whether it became so within some seconds."""
    end = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() >= end:
            return False
        time.sleep(pause)
    return True


def listens(port: int) -> bool:
    """Tell whether something on this server takes connections at a port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def get(url: str) -> str | None:
    """Return what this server answers with a code of success at a URL of its own; None when it does not."""
    unverified = ssl._create_unverified_context()  # noqa: S323 (only whether it answers is asked, of this server)
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=3, context=unverified) as answer:  # noqa: S310
        return str(answer.read(1000).decode())
    return None


def read(path: Path) -> str | None:
    """Return a file's text without white space around it; None when there is nothing or no file."""
    with contextlib.suppress(OSError):
        return path.read_text().strip() or None
    return None


@contextlib.contextmanager
def private(name: str, text: str) -> Iterator[Path]:
    """Keep a text in a file in memory, for root only, for as long as it is used."""
    VOLATILE.mkdir(mode=0o700, exist_ok=True)
    path = VOLATILE / name
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    try:
        path.write_text(text)
        yield path
    finally:
        path.unlink(missing_ok=True)
