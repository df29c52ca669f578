"""Faults on purpose: what goes wrong in real clouds, each with a way back."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.cloud.bootstrap import connect
from lab.cloud.configuration import hypervisors
from lab.cloud.services import ENDPOINTS, units
from lab.files import write
from lab.machine import Machine
from lab.servers import Server, ServerError, find, runs
from lab.state import State

BACKENDS = ("haproxy", "nginx", "mariadb", "rabbitmq-server", "memcached", "dns")


class FaultError(RuntimeError):
    """The fault cannot be made or undone; the message says why."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault that is in force.

    name: of its kind, see KINDS.
    target: a server's id, an endpoint's type or a unit.
    label: what the user called it.
    options: of the kind, for example {"rate": 0.3}.
    """

    name: str
    target: str
    label: str
    options: dict[str, float]


class Faults:
    """The faults of one lab.  A fault is noted before it is made, so that one that was interrupted can be undone."""

    def __init__(self, state: State, machine: Machine) -> None:
        self.state = state
        self.machine = machine
        self._file = state.folder / "faults.json"

    def in_force(self) -> list[Fault]:
        """Return those in force."""
        return [Fault(**entry) for entry in json.loads(self._file.read_text())] if self._file.exists() else []

    def _note(self, faults: list[Fault]) -> None:
        write(self._file, json.dumps([dataclasses.asdict(fault) for fault in faults], indent=1))

    def make(self, name: str, target: str, **options: float) -> Fault:
        """Make a fault; one of the same kind and target takes the new options.  Raises FaultError or ServerError."""
        kind = KINDS[name]
        fault = Fault(name, kind.resolve(self, target), target, options)
        self._note([other for other in self.in_force() if not _same(other, fault)] + [fault])
        kind.make(self, fault)
        return fault

    def undo(self, name: str, target: str = "") -> None:
        """Undo the faults of a kind: that on one target (name or id), or all.  Raises FaultError when there is none."""
        chosen = [f for f in self.in_force() if f.name == name and target in ("", f.target, f.label)]
        if not chosen:
            there = ", ".join(f"{f.name} {f.label}" for f in self.in_force()) or "none"
            raise FaultError(f"{name} {target}: no such fault is in force; there are: {there}")
        for fault in chosen:
            self._undo(fault)

    def clear(self) -> list[Fault]:
        """Undo all of them, the latest first; return them."""
        faults = self.in_force()[::-1]
        for fault in faults:
            self._undo(fault)
        return faults

    def _undo(self, fault: Fault) -> None:
        KINDS[fault.name].undo(self, fault)
        self._note([other for other in self.in_force() if not _same(other, fault)])

    def thaw_all(self) -> None:
        """Undo what would keep the machine from going down: a frozen server does not stop."""
        for fault in self.in_force():
            if fault.name == "freeze":
                self._undo(fault)

    def forget_volatile(self) -> None:
        """Forget those that ended with the machine."""
        if self._file.exists():
            self._note([fault for fault in self.in_force() if KINDS[fault.name].outlasts_down])

    # What the kinds do

    def server_id(self, target: str) -> str:
        """Resolve a server's name or id to its id."""
        return find(self.machine, target).id

    def _server(self, fault: Fault) -> Server | None:
        try:
            return find(self.machine, fault.target)
        except ServerError:
            return None  # deleted meanwhile: nothing to undo

    def pull_plug(self, fault: Fault) -> None:
        """Kill every process of a server at once."""
        self.machine.run("systemctl", "kill", "--signal=KILL", find(self.machine, fault.target).unit)

    def plug_in(self, fault: Fault) -> None:
        """Power it on again, whether or not Nova has noticed; one that somebody powered on meanwhile stays."""
        server = self._server(fault)
        if server is None or runs(self.machine, server):
            return
        compute = connect(self.state.admin()).compute
        server = compute.get_server(fault.target)
        if server.status == "SHUTOFF":
            compute.start_server(server)
        else:
            compute.reboot_server(server, "HARD")

    def freeze(self, fault: Fault) -> None:
        """Stop all processes of a server, and its answering ARP and ping, which the kernel does without them."""
        self.cut(fault)
        self._freezer(find(self.machine, fault.target), "FROZEN")

    def thaw(self, fault: Fault) -> None:
        """Let them go on."""
        server = self._server(fault)
        if server:
            self._freezer(server, "THAWED")
            self.join(fault)

    def _freezer(self, server: Server, state: str) -> None:
        self.machine.run("/usr/local/sbin/freeze-server", server.id, state)

    def cut(self, fault: Fault) -> None:
        """Block a server's ports: nothing passes, but its links stay up."""
        self.machine.run("/usr/local/sbin/set-ports", find(self.machine, fault.target).folder, "disabled")

    def join(self, fault: Fault) -> None:
        """Unblock them."""
        server = self._server(fault)
        if server:
            self.machine.run("/usr/local/sbin/set-ports", server.folder, "forwarding")

    def fill(self, fault: Fault) -> None:
        """Take all that is free of a server's disk."""
        folder = find(self.machine, fault.target).folder
        script = """cd "$1/disk" && fallocate --length "$(df --output=avail --block-size=1 . | tail -1)" fill
            cat /dev/zero > rest"""
        self.machine.run("bash", "-c", script, "fill", folder, check=False)

    def empty(self, fault: Fault) -> None:
        """Give it back."""
        server = self._server(fault)
        if server:
            self.machine.run("rm", "-f", f"{server.folder}/disk/fill", f"{server.folder}/disk/rest")

    def endpoint(self, target: str) -> str:
        """Resolve nova or compute to compute."""
        for endpoint in ENDPOINTS:
            if target in (endpoint.name, endpoint.type):
                return endpoint.type
        known = ", ".join(endpoint.name for endpoint in ENDPOINTS)
        raise FaultError(f"{target}: no endpoint of the lab; there are {known}")

    def fail_requests(self, fault: Fault) -> None:
        """Answer 503 to a share of the requests."""
        self._set_map("error-percent", fault.target, fault.options["rate"] * 100)

    def answer_requests(self, fault: Fault) -> None:
        """Answer as usual."""
        self._set_map("error-percent", fault.target, 0)

    def delay_requests(self, fault: Fault) -> None:
        """Hold a share of the requests back."""
        self._set_map("delay-milliseconds", fault.target, fault.options["delay"] * 1000)
        self._set_map("slow-percent", fault.target, fault.options["rate"] * 100)

    def hurry_requests(self, fault: Fault) -> None:
        """Do not."""
        self._set_map("slow-percent", fault.target, 0)

    def _set_map(self, name: str, key: str, value: float) -> None:
        admin = Path(f"/proc/{self.machine.leader}/root/run/haproxy-admin.sock")
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(admin))
            connection.sendall(f"set map /etc/haproxy/{name}.map {key} {round(value)}\n".encode())
            answer = connection.recv(4096).decode().strip()
        if answer:
            raise FaultError(f"HAProxy: {answer}")

    def unit(self, target: str) -> str:
        """Check that a unit is one of the lab's."""
        known = [
            unit.removesuffix(".service")
            for unit in units([h.name for h in hypervisors(self.state.settings.addresses)])
        ]
        if target.removesuffix(".service") in (*known, *BACKENDS):
            return target.removesuffix(".service")
        raise FaultError(f"{target}: no service of the lab; there are {', '.join((*known, *BACKENDS))}")

    def stop(self, fault: Fault) -> None:
        """Stop a unit."""
        self.machine.run("systemctl", "stop", fault.target)

    def start(self, fault: Fault) -> None:
        """Start it again."""
        self.machine.run("systemctl", "start", fault.target)


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of fault.

    resolve: what the user calls the target -> what it is.
    outlasts_down: whether it is still there after the lab was down and up.
    """

    resolve: Callable[[Faults, str], str]
    make: Callable[[Faults, Fault], Any]
    undo: Callable[[Faults, Fault], Any]
    outlasts_down: bool = False


KINDS = {
    "power-loss": Kind(Faults.server_id, Faults.pull_plug, Faults.plug_in, outlasts_down=True),
    "freeze": Kind(Faults.server_id, Faults.freeze, Faults.thaw),
    "cut": Kind(Faults.server_id, Faults.cut, Faults.join),
    "fill-disk": Kind(Faults.server_id, Faults.fill, Faults.empty, outlasts_down=True),
    "api-error": Kind(Faults.endpoint, Faults.fail_requests, Faults.answer_requests),
    "api-slow": Kind(Faults.endpoint, Faults.delay_requests, Faults.hurry_requests),
    "stop-service": Kind(Faults.unit, Faults.stop, Faults.start),
}


def _same(one: Fault, other: Fault) -> bool:
    return (one.name, one.target) == (other.name, other.target)
