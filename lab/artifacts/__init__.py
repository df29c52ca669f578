"""Everything Kubernetes that servers get, built from pinned Go modules and Debian packages; see docs/artifacts.md."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
import shutil
from pathlib import Path

from lab.artifacts import collection, debian, golang, images, matrix
from lab.cache import Cache, Input
from lab.command import CommandError, run
from lab.progress import Report

HERE = Path(__file__).parent
# The C compiler makes runc and pause; pkg-config tells Go where libseccomp is. Debian's packages have the same names.
PROGRAMS = ("gcc", "mmdebstrap", "pkg-config", "zstd")
_ENTRY = "artifacts"


def build(cache: Cache, kubernetes: str, report: Report) -> Path:
    """Return a folder with the artifacts of a Kubernetes version: `bin/`, `cni/`, `images/`, `manifests/`,
    `versions.json` and `SHA256SUMS`.

    kubernetes: like `1.36.3`, one of matrix.versions().
    Each component and image is an entry of the cache, so only what changed is made anew.
    Raises ValueError for another version, CommandError when a build fails.
    """
    release = matrix.release(kubernetes)
    components = _components(cache, release, report)
    archives = images.build(cache, release, components, report)
    inputs: list[Input] = [HERE / "collection.py", repr(release.install), kubernetes]
    inputs += [f"{name} {folder.name}" for name, folder in sorted((components | archives).items())]

    def make(folder: Path) -> None:
        with report.step(f"Collect the artifacts of Kubernetes {kubernetes}"):
            collection.collect(folder, release, components, archives, debian.base(cache, report))

    return cache.entry(_ENTRY, inputs, make)


def fetch(cache: Cache, kubernetes: str, report: Report) -> None:
    """Do what `build` would wait for though it needs little of the processor: modules and Debian packages.

    To be run beside `build`, which does without it what is not done yet.
    """
    debian.base(cache, report)
    log = cache.root / "logs" / "artifacts-modules.log"
    with report.step(f"Fetch the modules for Kubernetes {kubernetes}") as step:
        components = matrix.release(kubernetes).components
        for number, (name, component) in enumerate(components.items()):
            step.update(name, number, len(components))
            # The entry stays empty: it only says that it was done.
            cache.entry(f"{_ENTRY}-modules", [component.pins], functools.partial(golang.download, component, log))


def problems() -> list[str]:
    """Return a sentence for everything that this machine lacks to build the artifacts."""
    missing = [
        f"{name}: not installed; it builds the Kubernetes artifacts" for name in PROGRAMS if not shutil.which(name)
    ]
    return missing + go_problems()


def go_problems() -> list[str]:
    """Return a sentence when this machine's go is too old or there is none."""
    return old_go(_go_version(), os.environ.get("PATH", ""))


def _go_version() -> str:
    try:
        return run("go", "env", "GOVERSION", cwd=HERE).strip()
    except CommandError:
        return ""


def old_go(found: str, path: str) -> list[str]:
    """Judge what `go env GOVERSION` printed; empty when there is no go."""
    needed = max(_go_line(file) for file in matrix.MODULES.rglob("go.mod"))
    if _numbers(found) >= needed:
        return []
    return [
        f"go: found {found or 'none'} in PATH ({path}), needed go{'.'.join(map(str, needed))} or later to build the "
        "Kubernetes artifacts; install it, and with sudo pass its folder on: sudo env PATH=$PATH make lab"
    ]


def _go_line(go_mod: Path) -> tuple[int, ...]:
    return _numbers(next(line for line in go_mod.read_text().splitlines() if line.startswith("go ")))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _components(cache: Cache, release: matrix.Release, report: Report) -> dict[str, Path]:
    """Build the components one after another (go uses all cores); return component -> folder."""
    builder = _Builder(cache, release, report, debian.sysroot(cache, report), run("gcc", "-dumpfullversion").strip())
    return {name: builder.component(number, name) for number, name in enumerate(release.components, 1)}


@dataclasses.dataclass
class _Builder:
    cache: Cache
    release: matrix.Release
    report: Report
    sysroot: Path
    compiler: str

    def component(self, number: int, name: str) -> Path:
        """Return the folder of one component, building it if need be."""
        component = self.release.components[name]
        pause = next(image.tag for image in self.release.images if image.archive == "pause")

        def make(folder: Path) -> None:
            log = self.cache.root / "logs" / f"artifacts-{name}.log"
            with self.report.step(
                f"Build {name} {component.version} ({number}/{len(self.release.components)})"
            ) as step:
                golang.build(folder, component, pause, self.sysroot, log, step.update)

        return self.cache.entry(f"{_ENTRY}-{name}", self._inputs(component, pause), make)

    def _inputs(self, component: matrix.Component, pause: str) -> list[Input]:
        settings = dataclasses.asdict(component) | {"pins": ""}
        inputs: list[Input] = [
            json.dumps(settings, sort_keys=True),
            component.pins,
            HERE / "golang.py",
            golang.version(component),
        ]
        if component.cgo or component.c_programs:
            inputs += [self.compiler, self.sysroot.parent.name, pause]
        return inputs
