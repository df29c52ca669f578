"""The mirror's Python packages: Salt for the servers' Python 3.11, as wheels in a static simple index (PEP 503)."""

from __future__ import annotations

import html
import platform
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from lab.cache import Cache
from lab.command import run
from lab.files import sha256
from lab.progress import Report

# Pinned, with hashes: what the servers get, and what turns sources into wheels.
LOCK = Path(__file__).parents[2] / "cloud.deploy.d" / "servers.lock"
BUILD = Path(__file__).parent / "build.lock"

# Debian 12: CPython 3.11 and glibc 2.36.
PYTHON = (3, 11)
GLIBC = (2, 36)


class PypiError(RuntimeError):
    """The wheels cannot be made here, or would not run on the servers."""


def build(cache: Cache, report: Report) -> Path:
    """Return a folder with `simple/` (the index), `packages/` (wheels) and `requirements.lock` (their hashes).

    Packages come through the machine's pip settings, checked against the hashes of servers.lock; those published only
    as source are built into wheels, which needs a C compiler and the headers of Python 3.11.
    Raises PypiError on another Python than the servers'.
    """

    def make(folder: Path) -> None:
        with report.step("Collect the servers' Python packages"):
            if (sys.version_info[:2], platform.machine()) != (PYTHON, "x86_64"):
                raise PypiError(
                    f"Python {platform.python_version()} on {platform.machine()} cannot build wheels for the servers; "
                    "run the lab with Python 3.11 on x86_64"
                )
            packages = folder / "packages"
            _wheels(packages)
            problems = unfit(path.name for path in packages.iterdir())
            if problems:
                raise PypiError("\n".join(problems))
            write_index(folder)

    return cache.entry("mirror-pypi", [Path(__file__), LOCK, BUILD], make)


def _wheels(packages: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="lab-pypi-") as environment:
        run(sys.executable, "-m", "venv", environment)
        pip = [str(Path(environment, "bin/pip")), "--quiet", "--disable-pip-version-check"]
        run(*pip, "install", "--require-hashes", "--requirement", BUILD)
        # Without isolation: sources are built with what BUILD pins, not with the newest of today.
        options = ["--no-deps", "--no-build-isolation", "--require-hashes"]
        run(*pip, "wheel", *options, "--wheel-dir", packages, "--requirement", LOCK)


def unfit(wheels: Iterable[str]) -> list[str]:
    """Return a sentence for every wheel, given by file name, that the servers' Python could not install."""
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(5, GLIBC[1] + 1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    fit = {*cpython_tags(PYTHON, platforms=platforms), *compatible_tags(PYTHON, "cp311", platforms)}
    return [
        f"{wheel}: does not fit the servers' CPython 3.11, x86_64, glibc 2.36; pin another version in servers.in"
        for wheel in sorted(wheels)
        if not parse_wheel_filename(wheel)[3] & fit
    ]


def write_index(folder: Path) -> None:
    """Write the index pages and `requirements.lock` of the wheels in the folder's `packages/`."""
    projects, pins = {}, []
    for wheel in sorted((folder / "packages").iterdir()):
        name, version, *_ = parse_wheel_filename(wheel.name)
        digest = sha256(wheel)
        projects[canonicalize_name(name)] = _link(f"../../packages/{wheel.name}#sha256={digest}", wheel.name)
        pins.append(f"{name}=={version} --hash=sha256:{digest}\n")
    for project, link in projects.items():
        _page(folder / "simple" / project, [link])
    _page(folder / "simple", [_link(f"{project}/", project) for project in projects])
    (folder / "requirements.lock").write_text("".join(pins))


def _link(target: str, text: str) -> str:
    return f'<a href="{html.escape(target)}">{html.escape(text)}</a><br>\n'


def _page(folder: Path, links: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    head = '<!DOCTYPE html>\n<html><head><meta name="pypi:repository-version" content="1.0"></head><body>\n'
    (folder / "index.html").write_text(head + "".join(links) + "</body></html>\n")
