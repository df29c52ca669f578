"""Watching for secrets in the open, on the Salt master and on the masters, while something is done with them.

What is looked for: lines out of private keys, as they are and decoded, the passphrase of the backups, the key of the
Secrets in etcd. What is looked at: command lines and environments of all processes, all the time; afterwards logs,
journals, job cache, events, and every file that others may read and that was written meanwhile.
"""

from __future__ import annotations

import base64
import contextlib
import os
import shlex
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from managed_k8s.restore.plan import AUTHORITIES
from managed_k8s.salt_master import cli
from managed_k8s.state.store import Store
from tests.support.checkout import BIN, Cluster
from tests.support.project import eventually

_LARGEST = 64 << 20
_PAUSE = 0.2
# On a master, for root alone: since when, what runs, what processes were called, and what is looked for.
_BEGUN, _SCRIPT, _SEEN, _NEEDLES = (f"/run/e2e-{name}" for name in ("begun", "watch", "seen", "needles"))
_UNIT = "e2e-watch"
_WATCH = f"""
umask 077
while :; do
  cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'
  sleep {_PAUSE}
done | awk '!seen[$0]++ {{ print; fflush() }}' > {_SEEN}
"""
_START = f"""
systemctl stop {_UNIT} 2>/dev/null
umask 077
touch {_BEGUN}
cat > {_SCRIPT}
systemd-run --quiet --collect --unit={_UNIT} sh {_SCRIPT}
"""
_FIND = f"""
systemctl stop {_UNIT}
umask 077
cat > {_NEEDLES}
grep -q -F -f {_NEEDLES} {_SEEN} && echo 'a command line or environment'
journalctl --output=cat --since="@$(stat -c %Y {_BEGUN})" | grep -q -F -f {_NEEDLES} && echo 'the journal'
grep -r -l -s -D skip -F -f {_NEEDLES} /var/log
find / /run /dev/shm -xdev -type f -perm /004 -size -64M -newer {_BEGUN} -print0 |
  xargs -0 -r grep -l -s -F -f {_NEEDLES}
rm -f {_NEEDLES} {_SEEN} {_SCRIPT} {_BEGUN}
"""


def secrets(demo: Cluster) -> list[bytes]:
    """Return what must not be seen."""
    found = []
    for name in (name for name in AUTHORITIES if name.endswith(".key")):
        lines = demo.ssh(demo.names("master")[0], f"sudo cat /etc/kubernetes/pki/{name}").splitlines()
        line = lines[len(lines) // 2]
        found += [line.encode(), base64.b64decode(line)]
    passphrase = _vault(demo).read_text("passphrase")
    assert passphrase
    return [*found, passphrase.strip().encode(), demo.store.read("encryption.json")["key"].encode()]


def _vault(demo: Cluster) -> Store:
    return Store(cli.state_folder(), demo.name, "managed_k8s_backups")


class Watch(contextlib.AbstractContextManager["Watch"]):
    """Watches from entering to leaving; `found` says afterwards, in words, where something was.

    secrets: what is looked for. It needs root to see all of this machine's processes.
    """

    def __init__(self, demo: Cluster, secrets: Sequence[bytes]) -> None:
        self.demo, self.secrets = demo, secrets
        self.found: list[str] = []
        self.rounds = self.events = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        """Begin."""
        self.begun = time.time()
        self.masters = {name: self.demo.servers[name]["id"] for name in self.demo.names("master")}
        for name in self.masters:
            self._root(name, _START, _WATCH)
        self._heard = self.demo.account.folder / f"events-{time.time_ns()}"
        with self._heard.open("wb") as output:
            self._bus = subprocess.Popen(
                [BIN / "salt-run", "state.event"], cwd=self.demo.checkout.root, env=self.demo.checkout.environment,
                stdout=output, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        eventually(self._hears, 60, 1)
        self._thread.start()
        return self

    def _hears(self) -> bool:
        # It says nothing until something happens.
        self.demo.checkout.salt("demo-master-*", "test.ping", check=False)
        return self._heard.stat().st_size > 0

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End, and look at what stayed."""
        self._end.set()
        self._thread.join()
        self._bus.kill()
        self._bus.wait()
        self.events = self._heard.read_bytes().count(b"\n")
        self._check("an event", self._heard.read_bytes())
        servers = self.demo.servers
        for name, identity in self.masters.items():
            # One that was made anew was not watched.
            if name in servers and servers[name]["id"] == identity:
                words = [secret.decode() for secret in self.secrets if secret.isascii()]
                said = self._root(name, _FIND, "\n".join(words) + "\n")
                self.found += [f"{name}: {line}" for line in said.splitlines()]
        if kind is None:
            self._look_at_files()

    def _root(self, name: str, script: str, stdin: str) -> str:
        return self.demo.ssh(name, f"sudo sh -c {shlex.quote(script)}", timeout=300, stdin=stdin)

    # This machine

    def _look(self) -> None:
        while not self._end.wait(_PAUSE):
            for process in Path("/proc").glob("[0-9]*"):
                for kind in ("cmdline", "environ"):
                    with contextlib.suppress(OSError):
                        self._check(f"{kind} of process {process.name}", (process / kind).read_bytes())
            self.rounds += 1

    def _check(self, where: str, content: bytes) -> None:
        if any(secret in content for secret in self.secrets):
            self.found.append(where)

    def _look_at_files(self) -> None:
        state, vault = cli.state_folder(), _vault(self.demo).folder
        # Salt's logs and job cache; a cluster's logs and what happened to it; what is encrypted.
        told = [*_files(state / "var"), *_files(vault / "repository")]
        told += [path for path in _files(self.demo.store.folder) if path.suffix in (".log", ".jsonl")]
        assert len(told) > 20
        everywhere = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), state, self.demo.checkout.root)
        open_to_all = [path for folder in everywhere for path in _files(folder) if _is_open(path, self.begun)]
        for path in {*told, *open_to_all}:
            with contextlib.suppress(OSError):
                if path.stat().st_size <= _LARGEST:
                    self._check(str(path), path.read_bytes())
        for path in _files(vault):
            with contextlib.suppress(OSError):
                if path.stat().st_mode & 0o077:
                    self.found.append(f"{path} can be read by others")


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in (".git", ".venv")]
        for path in (Path(parent) / name for name in names):
            if path.is_file() and not path.is_symlink():
                yield path


def _is_open(path: Path, since: float) -> bool:
    """Tell whether others may read a file that was written since then."""
    with contextlib.suppress(OSError):
        about = path.stat()
        return bool(about.st_mode & 0o004) and about.st_mtime >= since
    return False
