"""Sending files to a server: over SSH through a gateway, into a folder that only root enters.

Not by Salt: what its file server has every minion can read, and what a job carries is kept.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from managed_k8s.errors import Error

# Also in _modules/managed_k8s_restore.py.
ROOT = "/var/lib/managed-k8s/restore"
_LIMIT = 3600
# The mode of the folder is set before anything is in it.
_UNPACK = (
    "sudo sh -c 'umask 077; mkdir -p {root}/{id} && chmod 700 {root} {root}/{id} && "
    "tar --no-same-owner --no-same-permissions -xf - -C {root}/{id}'"
)


class TransferError(Error):
    """Files did not reach a server; the message says why."""


def send(configuration: Path, server: str, folder: Path, restore_id: str) -> None:
    """Send all files of a folder into the folder of a restore on a server.

    configuration: for ssh, in which the server has its name. Raises TransferError.
    """
    command = _UNPACK.format(root=ROOT, id=restore_id)
    words = ["ssh", "-F", str(configuration), "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", server, command]
    with subprocess.Popen(["tar", "-cf", "-", "-C", str(folder), "."], stdout=subprocess.PIPE) as packing:
        try:
            done = subprocess.run(
                words,
                stdin=packing.stdout,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise TransferError(f"{server}: the backup was not there after {_LIMIT} seconds") from None
        finally:
            packing.kill()
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()[-3:]
        raise TransferError(
            f"{server}: the backup cannot be sent: {' | '.join(said) or f'exit code {done.returncode}'}"
        )
