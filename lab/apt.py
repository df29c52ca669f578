"""Debian packages from the machine's own apt sources, without touching the machine's apt state."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from lab.command import run

RELEASE = "bookworm"

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")


class AptError(RuntimeError):
    """The machine's apt cannot give what is asked; the message says what to do."""


def source_files() -> list[Path]:
    """Return the machine's apt source files that Debian's bookworm comes from.

    apt knows a source's origin only after `apt-get update`; before that, files that name bookworm count.
    Raises AptError when there is none.
    """
    origins = run(
        "apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(SOURCESENTRY)", "Created-By: Packages"
    )
    known = any(not line.startswith("|") for line in origins.splitlines())
    files = parse_origins(origins) if known else _named(Path("/etc/apt"))
    if not files:
        raise AptError(
            f"apt: none of the machine's sources is Debian's {RELEASE}; add one to /etc/apt/sources.list.d "
            "(signed by debian-archive-keyring) and run apt-get update"
        )
    return files


def _named(folder: Path) -> list[Path]:
    candidates = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    files = [path for path in candidates if path.suffix in (".list", ".sources") and path.is_file()]
    return [path for path in files if RELEASE in path.read_text(errors="replace")]


def parse_origins(text: str) -> list[Path]:
    """Pick the source files from lines of `origin|codename|file:line`."""
    files = set()
    for line in text.splitlines():
        origin, codename, entry = line.split("|")
        if origin == "Debian" and codename.split("-")[0] == RELEASE:
            files.add(Path(entry.rpartition(":")[0]))
    return sorted(files)


def settings() -> str:
    """Return how the machine's apt fetches (proxies, time-outs, validity checks) in the form of an apt.conf file."""
    return run("apt-config", "dump", "Acquire")


def read_packages(path: Path) -> list[str]:
    """Read a package list: a name per line and, after `#`, what it is for.

    Raises AptError, which lists every wrong line.
    """
    names: list[str] = []
    problems = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        name, _, reason = (part.strip() for part in line.partition("#"))
        if not name:
            continue
        if not _PACKAGE.fullmatch(name):
            problems.append(f"{path}:{number}: {name!r} is not a Debian package name; write one per line")
        elif name in names:
            problems.append(f"{path}:{number}: {name} is listed twice; keep one line")
        elif not reason:
            problems.append(f"{path}:{number}: {name}: say after # what it is for")
        names.append(name)
    if problems:
        raise AptError("\n".join(problems))
    return names


def download(packages: Iterable[str], folder: Path) -> list[Path]:
    """Download packages and everything they depend on, down to libc, into a folder.

    apt works in a root of its own, where nothing is installed: the machine's own packages do not count.
    Returns the .deb files.
    """
    with tempfile.TemporaryDirectory(prefix="lab-apt-") as root:
        env = {"APT_CONFIG": str(_private_root(Path(root))), "LC_ALL": "C.UTF-8"}
        run("apt-get", "update", "--quiet", env=env)
        run("apt-get", "install", "--download-only", "--yes", "--quiet", "--no-install-recommends", *packages, env=env)
        debs = (Path(root) / "var/cache/apt/archives").glob("*.deb")
        return sorted(Path(shutil.move(deb, folder / deb.name)) for deb in debs)


def _private_root(root: Path) -> Path:
    for part in ("etc/apt/sources.list.d", "var/lib/apt/lists/partial", "var/cache/apt/archives/partial"):
        (root / part).mkdir(parents=True)
    for file in source_files():
        shutil.copy(file, root / "etc/apt/sources.list.d")
    status = root / "status"
    status.touch()
    config = root / "apt.conf"
    # Only signatures that the machine trusts count; sandboxing to the user _apt needs a root that this user can read.
    config.write_text(
        f'{settings()}\nDir "{root}/";\nDir::State::status "{status}";\n'
        'Dir::Etc::TrustedParts "/etc/apt/trusted.gpg.d";\nAPT::Sandbox::User "root";\n'
    )
    return config
