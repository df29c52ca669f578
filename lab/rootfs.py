"""Debian root file systems, from the machine's own apt sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from lab import apt
from lab.command import run_logged

# No file is younger than this (2026-01-01T00:00:00Z), so that the same packages make the same bytes.
EPOCH = 1767225600


def bootstrap(
    target: Path,
    packages: Iterable[str],
    log: Path,
    *options: str,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Make a root file system with these packages and what they need, without documentation.

    target: a folder, or a file that mmdebstrap knows by its suffix (.tar).
    options: more of mmdebstrap's.
    Raises CommandError or apt.AptError.
    """
    run_logged(
        "mmdebstrap",
        "--variant=minbase",
        "--mode=root",
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=APT::Install-Recommends "false"',
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "--dpkgopt=force-unsafe-io",
        f"--include={','.join(packages)}",
        *options,
        apt.RELEASE,
        str(target),
        *(str(path) for path in apt.source_files()),
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        log=log,
        on_line=on_line,
    )
