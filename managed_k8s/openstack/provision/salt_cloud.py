"""Making one server of cluster.map through salt-cloud's own code, in a process of its own.

A process, as salt-cloud's loader is not made for threads; and as it goes on when the reconciler is stopped: a half-made
server costs more than one that is finished a little later. Its lock says that it is at it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from managed_k8s import paths
from managed_k8s.config import load
from managed_k8s.openstack.connection import CloudError
from managed_k8s.state.store import Store


def run(opts: Mapping[str, Any], store: Store, name: str, limit: float) -> None:
    """Make a server; return when its minion is installed. What is complete already is left alone.

    limit: seconds. Raises CloudError with what salt-cloud says.
    """
    log = store.path(f"making/{name}.log")
    command = [sys.executable, "-m", "managed_k8s.openstack.provision.salt_cloud", str(opts["conf_file"]), name]
    with os.fdopen(os.open(log, os.O_WRONLY | os.O_TRUNC | os.O_CREAT, 0o600), "wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=paths.root(opts),
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            # Its group: salt-cloud starts processes of its own, and they would wait for it for ever.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise CloudError(f"server {name} was not made within {limit:.0f} seconds; see {log}") from None
    if code:
        raise CloudError(_last_words(log) or f"salt-cloud ended with exit code {code}; see {log}")


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-5:])[-1500:]


def make(configuration: str, name: str) -> str:
    """Make a server in this process; return what went wrong, or nothing.

    configuration: the Salt master's file.
    """
    # Of this process alone; whoever starts it does without.
    import salt.cloud

    client = salt.cloud.CloudClient(path=str(Path(configuration).with_name("cloud")))
    # The map with this server alone, so that what it overrides counts.
    made = client.map_run(map_data=load.server_map(client.opts).alone(name))
    answer = made.get(name, {}) if isinstance(made, dict) else {}
    return str(answer.get("Error", "")) if isinstance(answer, dict) else f"salt-cloud made no server {name}"


def main(configuration: str, name: str) -> None:
    """Make a server; the exit code says how it went."""
    problem = make(configuration, name)
    if problem:
        sys.exit(f"{name}: {problem}")


if __name__ == "__main__":
    main(*sys.argv[1:])
