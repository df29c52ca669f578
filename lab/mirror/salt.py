"""Salt for servers as one archive: a ready virtual environment, unpacked in a second where pip takes half a minute."""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
from pathlib import Path

from lab.cache import Cache
from lab.command import run
from lab.progress import Report

# Where it has to be unpacked: the programs in it name their Python by its whole path.
TARGET = "/opt/managed-k8s/salt"
# The servers' own Python, whatever runs the lab.
INTERPRETER = "/usr/bin/python3"
ARCHIVE = "minion.tar.gz"


def build(cache: Cache, packages: Path, report: Report) -> Path:
    """Return a folder with the archive, which holds one folder `salt`.

    packages: the mirror's Python packages: `packages/` and `requirements.lock`.
    """

    def make(folder: Path) -> None:
        with report.step("Pack Salt for the servers"), tempfile.TemporaryDirectory(prefix="lab-salt-") as scratch:
            environment = Path(scratch) / "salt"
            _install(environment, packages)
            _compile(environment)
            _relocate(environment)
            with tarfile.open(folder / ARCHIVE, "w:gz", compresslevel=6) as archive:
                archive.add(environment, "salt", filter=_anonymous)

    return cache.entry("mirror-salt", [Path(__file__), packages.name], make)


def _install(environment: Path, packages: Path) -> None:
    run(sys.executable, "-m", "venv", environment)
    run(
        environment / "bin/pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
        "--no-compile",
        "--no-index",
        "--find-links",
        packages / "packages",
        "--require-hashes",
        "--requirement",
        packages / "requirements.lock",
    )


def _compile(environment: Path) -> None:
    # Here, or every server does it at the first start; by hash, because times in the archive are none.
    places = ["-s", str(environment), "-p", TARGET, str(environment / "lib")]
    run(environment / "bin/python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *places)


def _relocate(environment: Path) -> None:
    for program in (environment / "bin").iterdir():
        if program.is_symlink():
            if program.readlink().is_absolute():
                program.unlink()
                program.symlink_to(INTERPRETER)
        elif (text := program.read_bytes()).startswith(b"#!"):
            program.write_bytes(text.replace(os.fsencode(environment), os.fsencode(TARGET)))
    home = Path(INTERPRETER).parent
    (environment / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\nversion = 3.11\n")


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "root"
    return member
