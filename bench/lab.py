"""What the lab costs: seconds to start and stop, processor and memory while nobody uses it.

Run by `make bench-lab`.  Brings the lab up, down and up again; servers in it count, and should be none.

Processor: time that the cgroup of the cloud's machine used over a minute, per second of that minute.  The kernel's own
work for it (network, disks) is not in it.
Memory: proportional set size (PSS) of all processes in that cgroup: pages that several processes share count once.
The page cache, which the kernel gives up when memory is short, is not in it.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from lab import settings
from lab.machine import GROUP, Machine
from tests.support.command_line import CHECKOUT, command, variables

CGROUP = Path("/sys/fs/cgroup")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cold", action="store_true", help="also from nothing, with an empty cache: 20 minutes")
    arguments.add_argument("--seconds", type=float, default=60, help="how long to watch the idle lab (%(default)s)")
    options = arguments.parse_args()
    console = Console()
    rows = list(measure(cold=options.cold, seconds=options.seconds))
    table = Table("", "measured", "limit", title="The lab")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def measure(*, cold: bool, seconds: float) -> Iterator[tuple[str, str, str]]:
    """Return rows of what, value, limit.

    seconds: to watch the idle lab.
    """
    if cold:
        lab("down")
        with nothing_cached() as env:
            yield "up from nothing, cache empty", f"{lab('up', env=env):.0f} s", "1200 s"
            lab("destroy", "--yes", env=env)
    lab("up")
    yield "up when already up", f"{lab('up'):.1f} s", "3 s"
    yield "down", f"{lab('down'):.1f} s", ""
    yield "up after down", f"{lab('up'):.1f} s", "90 s"
    time.sleep(30)  # services finish what they do at their start
    process = Machine(settings.load().state / "machine").process
    if process is None:
        raise SystemExit("The lab is not up.")
    groups = Path(f"/proc/{process}/cgroup").read_text()
    yield f"idle, processor over {seconds:.0f} s", f"{busy_cores(usage(groups), seconds):.2f} cores", "0.3 cores"
    yield "idle, memory (PSS)", f"{memory() / 10**9:.1f} GB", "5 GB"


def lab(*arguments: str, env: dict[str, str] | None = None) -> float:
    """Run `lab ARGUMENTS` and return how many seconds it took; what it says goes to the terminal."""
    start = time.monotonic()
    done = subprocess.run(command(*arguments), cwd=CHECKOUT, env=variables(env), stdout=sys.stderr)
    if done.returncode:
        raise SystemExit(f"lab {' '.join(arguments)}: exit code {done.returncode}")
    return time.monotonic() - start


@contextlib.contextmanager
def nothing_cached() -> Iterator[dict[str, str]]:
    """Give an environment with settings for a state and caches of their own, beside the user's cache."""
    ranges = settings.load().addresses
    parent = settings.load().cache.parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="cold-", dir=parent))
    try:
        file = folder / "managed-k8s" / "lab.toml"
        file.parent.mkdir()
        file.write_text(
            f'state = "{folder}/state"\ncache = "{folder}/cache"\n[addresses]\n'
            f'api_network = "{ranges.api_network}"\nunderlay_network = "{ranges.underlay_network}"\n'
            f'external_network = "{ranges.external_network}"\n'
        )
        # As on a machine that never compiled anything with go.
        caches = {"GOCACHE": f"{folder}/go-build", "GOMODCACHE": f"{folder}/go-modules"}
        yield {"XDG_CONFIG_HOME": str(folder), **caches}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def machine_group(groups: str, controller: str) -> str | None:
    """Return the path of the machine's cgroup from the text of /proc/<pid>/cgroup; None when it has none there.

    controller: of cgroup v1; empty for v2.
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        parts = path.split("/")
        ours = [number for number, part in enumerate(parts) if part.startswith(GROUP)]
        if ours and controller in controllers.split(","):
            return "/".join(parts[: ours[0] + 1])
    return None


def usage(groups: str) -> Callable[[], float]:
    """Return a function that reads the seconds of processor time that the machine has used.

    groups: text of /proc/<pid>/cgroup of its systemd-nspawn.
    """
    v1, v2 = machine_group(groups, "cpuacct"), machine_group(groups, "")
    if v1:
        file = CGROUP / "cpuacct" / v1.lstrip("/") / "cpuacct.usage"
        return lambda: int(file.read_text()) / 10**9
    if v2:
        stat = CGROUP / v2.lstrip("/") / "cpu.stat"
        return lambda: int(stat.read_text().split()[1]) / 10**6
    raise SystemExit(f"The lab's machine is in no cgroup named {GROUP}: {groups}")


def busy_cores(read: Callable[[], float], seconds: float) -> float:
    """Return how many cores were busy on average over some seconds."""
    start, used = time.monotonic(), read()
    time.sleep(seconds)
    return (read() - used) / (time.monotonic() - start)


def memory() -> int:
    """Return the PSS of all processes in the machine, in bytes."""
    return sum(pss(path) for path in Path("/proc").glob("[0-9]*"))


def pss(process: Path) -> int:
    """Return a process's PSS in bytes; 0 when it is not in the machine or has ended."""
    try:
        if GROUP not in (process / "cgroup").read_text():
            return 0
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
