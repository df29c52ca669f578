"""The cloud's machine: a systemd-nspawn container that runs all of OpenStack."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import tenacity

from lab.command import CommandError, run

LINK = "lab0"
# How its cgroups are called: see start-machine, and the unit on hosts with systemd.
GROUP = "managed-k8s-lab"
UNIT = f"{GROUP}.service"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class MachineError(RuntimeError):
    """The machine does not do what it should."""


class Machine:
    """The machine whose state is in a folder.

    state: see start-machine for what is in there.
    """

    def __init__(self, state: Path) -> None:
        self.state = state

    @property
    def process(self) -> int | None:
        """Process id of its systemd-nspawn, or None when it does not run."""
        try:
            pid, started = (self.state / "process").read_text().split()
            # The 22nd field is the start time: a process id that was given to another program is not ours.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return int(pid) if fields[19] == started and fields[0] != "Z" else None

    @property
    def leader(self) -> int | None:
        """Process id of its init, or None."""
        children = _children(self.process) if self.process else []
        return next((pid for pid in children if _name(pid) == "systemd"), None)

    def start(self, script: Path, lower: Path, mirrors: Path) -> None:
        """Start it, and return when its init accepts commands.

        script: start-machine.
        lower: root file system with its packages; mirrors: folder with what it serves.
        Raises MachineError with the end of its console log.
        """
        for name in ("upper", "work", "root", "data"):
            (self.state / name).mkdir(parents=True, exist_ok=True)
        variables = {"STATE": self.state, "LOWER": lower, "MIRRORS": mirrors, "LINK": LINK, "PATH": PATH}
        environment = {name: str(value) for name, value in variables.items()}
        command, console = [str(script)], self.state / "console.log"
        if Path("/run/systemd/system").is_dir():
            # A unit of its own: systemd delegates it a cgroup and does not end it with the user's session.
            settings = [f"--setenv={name}={value}" for name, value in environment.items()]
            properties = ["--property=Delegate=yes", "--property=KillMode=mixed", "--property=TasksMax=infinity"]
            properties.append("--property=CPUWeight=1000")
            # What a unit prints goes to the journal, unless it is told otherwise.
            properties += [f"--property={stream}=append:{console}" for stream in ("StandardOutput", "StandardError")]
            command = ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", *properties, *settings, *command]
        with console.open("ab") as log:
            subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            _wait(60, lambda: self.leader is not None and self.run("systemctl", "is-system-running", check=False) != "")
        except MachineError as error:
            tail = "\n  ".join(console.read_text(errors="replace").splitlines()[-15:])
            raise MachineError(f"the cloud's machine did not start within 60 s ({console})\n  {tail}") from error

    def run(self, *command: str, stdin: str | None = None, check: bool = True, timeout: float | None = 600) -> str:
        """Run a program in the machine and return its output; raises CommandError, or MachineError when it is down."""
        return run(*self.enter(), *command, stdin=stdin, check=check, timeout=timeout)

    def enter(self) -> list[str]:
        """Return the words to put before a command that is to run in the machine."""
        leader = self.leader
        if leader is None:
            raise MachineError("the lab is not up; run: make lab")
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        environment = (
            "env",
            "-i",
            f"PATH={PATH}",
            "HOME=/root",
            "LC_ALL=C.UTF-8",
            f"TERM={os.environ.get('TERM', 'dumb')}",
        )
        return ["nsenter", f"--target={leader}", *namespaces, "--", *environment]

    def stop(self, limit: float = 120) -> None:
        """Shut it down; what still runs after `limit` seconds is killed."""
        process, leader = self.process, self.leader
        if process is None:
            return
        os.kill(process, signal.SIGTERM)
        try:
            _wait(limit, lambda: self.process is None)
        except MachineError:
            for pid in (leader, process):
                if pid:
                    os.kill(pid, signal.SIGKILL)
            thaw()
            _wait(10, lambda: self.process is None)


def thaw() -> None:
    """Thaw servers that a fault froze: a frozen process does not die, and the machine's init waits for it."""
    for switch, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
        for path in Path("/sys/fs/cgroup").glob(f"**/server-*/{switch}"):
            path.write_text(thawed)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _wait(limit: float, ready: Callable[[], bool]) -> None:
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_delay(limit),
        wait=tenacity.wait_fixed(0.2),
        retry=tenacity.retry_if_result(lambda done: not done) | tenacity.retry_if_exception_type(CommandError),
    )
    try:
        attempts(ready)
    except tenacity.RetryError as error:
        raise MachineError(f"not within {limit:g} s") from error
