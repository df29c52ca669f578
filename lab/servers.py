"""The servers on the lab's hypervisors, seen from below: also when the API does not answer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from lab.machine import Machine


class ServerError(RuntimeError):
    """There is no such server, or it is not in the state that was asked for."""


@dataclasses.dataclass(frozen=True)
class Server:
    """One server.

    id: Nova's.
    folder: of its files, as the machine sees it.
    hypervisor: it is on.
    """

    id: str
    name: str
    folder: str
    hypervisor: str
    namespace: str

    @property
    def unit(self) -> str:
        """The unit it runs as, in the machine."""
        return f"server-{self.id}.service"


def find(machine: Machine, wanted: str) -> Server:
    """Return the server of a name or id; raises ServerError when there is none or more than one."""
    known = [_read(path) for path in sorted((machine.state / "data/nova").glob("hv*/instances/*/server.json"))]
    found = [server for server in known if wanted in (server.id, server.name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ServerError(
            f"{wanted}: the name of {len(found)} servers; use one of the ids {', '.join(s.id for s in found)}"
        )
    raise ServerError(f"{wanted}: no such server; there are {', '.join(s.name for s in known) or 'none'}")


def _read(path: Path) -> Server:
    facts = json.loads(path.read_text())
    identity, hypervisor = path.parent.name, path.parts[-4]
    folder = f"/var/lib/nova/{hypervisor}/instances/{identity}"
    return Server(identity, facts["display_name"], folder, hypervisor, facts["namespace"])


def leader(machine: Machine, server: Server) -> str:
    """Return the process id of the server's init, as the machine counts; raises ServerError when it does not run."""
    script = (
        'main=$(systemctl show --property=MainPID --value "$1"); [ "$main" = 0 ] || pgrep --parent "$main" --oldest'
    )
    found = machine.run("bash", "-c", script, "leader", server.unit, check=False).strip()
    if not found:
        raise ServerError(f"{server.name}: not running")
    return found


def runs(machine: Machine, server: Server) -> bool:
    """Tell whether a server runs, whatever Nova thinks."""
    try:
        return bool(leader(machine, server))
    except ServerError:
        return False


def console(machine: Machine, wanted: str, *, log: bool) -> list[str]:
    """Return the command that opens a root shell in a server, or (log) prints what it wrote to its console."""
    server = find(machine, wanted)
    if log:
        return [*machine.enter(), "journalctl", "--unit", server.unit, "--output=cat", "--no-pager"]
    inside = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--", "/bin/bash", "--login")
    return [*machine.enter(), "nsenter", f"--target={leader(machine, server)}", *inside]
