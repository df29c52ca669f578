"""Debian root file systems, from the machine's own apt sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from lab.command import run_logged

SUITE = "bookworm"
# No file is younger than this (2026-01-01T00:00:00Z), so that the same packages make the same bytes.
EPOCH = 1767225600
APT = Path("/etc/apt")


class SourcesError(RuntimeError):
    """The machine has no apt source for Debian 12."""


def apt_sources(apt: Path = APT) -> list[Path]:
    """Return the machine's apt source files that serve Debian 12 (bookworm); raises SourcesError without one."""
    candidates = [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]
    found = [path for path in candidates if path.suffix in (".list", ".sources") and path.is_file()]
    found = [path for path in found if SUITE in path.read_text(errors="replace")]
    if not found:
        raise SourcesError(
            f"{apt}: no sources.list and no sources.list.d/*.sources names {SUITE}: "
            f"add a source for Debian 12 with the components main, {SUITE}-updates and {SUITE}-security"
        )
    return found


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
    Raises CommandError.
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
        SUITE,
        str(target),
        *(str(path) for path in apt_sources()),
        env={"SOURCE_DATE_EPOCH": str(EPOCH)},
        log=log,
        on_line=on_line,
    )
