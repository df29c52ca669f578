"""Installing the Salt minion on a new server: one SSH connection, through a gateway where there is one.

Keys travel inside the connection, never on a command line, in user_data or in an event.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from managed_k8s.errors import Error
from managed_k8s.state.store import Store

# In the store: the private key of the cluster's servers.
SSH_KEY = "ssh_key"
# A folder in memory that only root can enter, gone at the end or at the next boot.
_REMOTE = "/run/managed-k8s"
_UNPACK = (
    f"sudo sh -c 'rm -rf {_REMOTE}; mkdir -m 700 {_REMOTE} && tar -xf - -C {_REMOTE} && "
    f"sh {_REMOTE}/install; result=$?; rm -rf {_REMOTE}; exit $result'"
)


class DeployError(Error):
    """The minion could not be installed; the message has the last lines of what the server said."""


class NotConnectedError(DeployError):
    """SSH itself failed: the server does not listen yet, or is too busy to answer."""


# ssh's own exit code, ssh(1); what runs on the server never uses it.
_SSH_FAILED = 255
_INTERVAL = 0.5


class Ssh:
    """How to log in to a server.

    key: file of the private key. known_hosts: file that learns the server's host key at the first connection.
    jump: how to log in to the server that it is reached through, or None.
    """

    def __init__(self, user: str, address: str, key: Path, known_hosts: Path, jump: Ssh | None = None) -> None:
        options = [
            "-i", str(key), "-o", f"UserKnownHostsFile={known_hosts}", "-o", "StrictHostKeyChecking=accept-new",
            "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes",
            "-o", "ServerAliveInterval=15", "-F", "none",
        ]  # fmt: skip
        self.options, self.target = options, f"{user}@{address}"
        if jump:
            proxy = shlex.join(["ssh", *jump.options, "-W", "[%h]:%p", jump.target])
            self.options = [*options, "-o", f"ProxyCommand={proxy}"]

    def run(self, command: str, data: bytes = b"", timeout: float = 600) -> str:
        """Run a command and return what it printed. Raises DeployError with its last lines."""
        words = ["ssh", *self.options, self.target, command]
        try:
            done = subprocess.run(words, input=data, capture_output=True, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            raise DeployError(f"{self.target}: not done after {timeout:g} seconds") from None
        output = done.stdout.decode(errors="replace")
        if done.returncode:
            lines = (output + done.stderr.decode(errors="replace")).strip().splitlines()[-8:]
            kind = NotConnectedError if done.returncode == _SSH_FAILED else DeployError
            raise kind(f"{self.target}: exit code {done.returncode}: " + " | ".join(lines))
        return output


def login(store: Store, keys: Mapping[str, Any], server: str, address: str, jump: Ssh | None = None) -> Ssh:
    """Return how to log in to a server of a cluster.

    keys: what it is made from. server: its id.
    """
    key = Path(keys.get("ssh_key_file") or store.path(SSH_KEY))
    # Addresses are given to other servers once one is gone, with other host keys: known hosts are kept by server.
    known_hosts = store.path(f"known_hosts/{server}")
    return Ssh(keys.get("ssh_username", "debian"), address, key, known_hosts, jump)


def install(routes: Callable[[], Iterable[Ssh]], files: Mapping[str, str], wait: float) -> None:
    """Send the files and run the one named `install` as root, as soon as the server lets us in.

    routes: gives the ways to log in; they are tried in turn, and asked for again when all failed.
    wait: seconds to keep on trying to connect. Raises DeployError.
    """
    data, limit = archive(files), time.monotonic() + wait
    failure = DeployError("no server that SSH could go through has a floating IP and runs")
    while time.monotonic() < limit:
        for route in routes():
            try:
                route.run(_UNPACK, data)
            except NotConnectedError as error:
                failure = error
            else:
                return
        time.sleep(_INTERVAL)
    raise DeployError(f"SSH is not possible within {wait:g} seconds; the last attempt: {failure}")


def archive(files: Mapping[str, str]) -> bytes:
    """Pack files, name -> text, into a tar that only root can read once it is unpacked."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o600
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()
