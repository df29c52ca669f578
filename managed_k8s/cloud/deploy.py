"""Installing the Salt minion on a new server: one SSH connection, through a gateway where there is one.

Keys travel inside the connection, never on a command line, in user_data or in an event.
"""

from __future__ import annotations

import io
import shlex
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

import tenacity

# A folder in memory that only root can enter, gone at the end or at the next boot.
_REMOTE = "/run/managed-k8s"
_UNPACK = (
    f"sudo sh -c 'rm -rf {_REMOTE}; mkdir -m 700 {_REMOTE} && tar -xf - -C {_REMOTE} && "
    f"sh {_REMOTE}/install; result=$?; rm -rf {_REMOTE}; exit $result'"
)


class DeployError(RuntimeError):
    """The minion could not be installed; the message has the last lines of what the server said."""


class _NotConnectedError(DeployError):
    """SSH itself failed: the server does not listen yet, or is too busy to answer."""


# ssh's own exit code, ssh(1); what runs on the server never uses it.
_SSH_FAILED = 255


class Ssh:
    """How to log in to a server.

    key: file of the private key. known_hosts: file that learns host keys at the first connection.
    gateway: address of the jump host, or None.
    """

    def __init__(self, user: str, address: str, key: Path, known_hosts: Path, gateway: str | None = None) -> None:
        options = [
            "-i", str(key), "-o", f"UserKnownHostsFile={known_hosts}", "-o", "StrictHostKeyChecking=accept-new",
            "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes",
            "-o", "ServerAliveInterval=15", "-F", "none",
        ]  # fmt: skip
        jump = []
        if gateway:
            proxy = shlex.join(["ssh", *options, "-W", "[%h]:%p", f"{user}@{gateway}"])
            jump = ["-o", f"ProxyCommand={proxy}"]
        self.command = ["ssh", *options, *jump, f"{user}@{address}"]

    def run(self, command: str, data: bytes = b"", wait: float = 60, timeout: float = 600) -> str:
        """Run a command that may be run twice, as soon as the server lets us in; return what it printed.

        wait: seconds to keep on trying to connect. Raises DeployError with the last lines.
        """
        for attempt in tenacity.Retrying(
            stop=tenacity.stop_after_delay(wait),
            wait=tenacity.wait_fixed(0.5),
            retry=tenacity.retry_if_exception_type(_NotConnectedError),
            reraise=True,
        ):
            with attempt:
                return self._run(command, data, timeout)
        raise AssertionError("unreachable")

    def _run(self, command: str, data: bytes, timeout: float) -> str:
        done = subprocess.run([*self.command, command], input=data, capture_output=True, timeout=timeout, check=False)
        output = done.stdout.decode(errors="replace")
        if done.returncode:
            lines = (output + done.stderr.decode(errors="replace")).strip().splitlines()[-8:]
            kind = _NotConnectedError if done.returncode == _SSH_FAILED else DeployError
            raise kind(f"{self.command[-1]}: exit code {done.returncode}: " + " | ".join(lines))
        return output


def install(ssh: Ssh, files: Mapping[str, str], wait: float) -> None:
    """Send the files and run the one named `install` as root, as soon as the server lets us in.

    wait: seconds to keep on trying to connect. Raises DeployError.
    """
    ssh.run(_UNPACK, archive(files), wait)


def archive(files: Mapping[str, str]) -> bytes:
    """Pack files, name -> text, into a tar that only root can read once it is unpacked."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o600
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()
