"""Building a component's programs from its pinned Go modules."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lab.artifacts.matrix import Component
from lab.command import run, run_logged

# Package installs run beside the build; they come first.
_NICE = ("nice", "-n", "10")
# What go calls the version of code that comes from no module, as our own.
_OWN = "(devel)"

Progress = Callable[[str], None]


def version(component: Component) -> str:
    """Return the Go version that builds it, like `go1.26.8`; raises CommandError when go is missing or too old."""
    return run("go", "env", "GOVERSION", cwd=component.pins).strip()


def build(folder: Path, component: Component, pause: str, sysroot: Path, log: Path, progress: Progress) -> None:
    """Build into a folder: `bin/`, `manifests/`, and `modules.json` with every module in the programs.

    pause: the tag of the pause image, compiled into its program.
    sysroot: C libraries, for a component that has C code.
    progress: called with a few words on what is being compiled.
    """
    (folder / "bin").mkdir()
    with tempfile.TemporaryDirectory(prefix="managed-k8s-") as scratch:
        source = Path(scratch) / component.name
        shutil.copytree(component.pins, source)
        _Build(component, source, folder, sysroot, log, progress).run(pause)


def download(component: Component, log: Path, _folder: Path) -> None:
    """Fetch a component's modules into Go's module cache: the network is idle while others compile."""
    with tempfile.TemporaryDirectory(prefix="managed-k8s-") as scratch:
        source = Path(scratch) / component.name
        shutil.copytree(component.pins, source)
        run_logged(*_NICE, "go", "mod", "download", cwd=source, log=log)


class _Build:
    """One component, built in a copy of its pins."""

    def __init__(
        self, component: Component, source: Path, folder: Path, sysroot: Path, log: Path, progress: Progress
    ) -> None:
        self.component, self.source, self.folder = component, source, folder
        self.sysroot, self.log, self.progress = sysroot, log, progress
        self.environment = _environment(component, sysroot)

    def run(self, pause: str) -> None:
        """Build everything of the component."""
        if self.component.main:
            self._write_main()
        if any(self.source.glob("*_test.go")):
            self._go("test", "./...")
        for tags, programs in _by_tags(self.component):
            self._compile(tags, programs)
        _write_json(self.folder / "modules.json", self._modules())
        for program, path in self.component.c_programs.items():
            self._compile_c(program, self._module_folder(self.component.module) / path, pause)
        for name, (module, path) in self.component.manifests.items():
            _copy_readable(self._module_folder(module) / path, self.folder / "manifests" / name)

    def _go(self, *words: str) -> None:
        run_logged(*_NICE, "go", *words, cwd=self.source, env=self.environment, log=self.log, on_line=self.progress)

    def _compile(self, tags: list[str], programs: list[str]) -> None:
        # One command for all: go links one program while it compiles for the next.
        with tempfile.TemporaryDirectory(dir=self.folder) as output:
            packages = [self.component.programs[program] for program in programs]
            # The linker drops the debugging data (-s -w): not making it saves a tenth of the compiler's time.
            flags = [
                "-v",
                "-gcflags=all=-dwarf=false",
                "-ldflags",
                self._linker_flags(),
                "-tags",
                ",".join(tags),
                "-o",
                output + "/",
            ]
            self._go("build", *flags, *packages)
            for program, package in zip(programs, packages, strict=True):
                (Path(output) / self._executable(package)).rename(self.folder / "bin" / program)

    def _executable(self, package: str) -> str:
        """Name the file that `go build -o folder/` makes of a package: the last word of its import path."""
        if package == ".":
            return self.component.name
        words = package.split("/")
        return words[-2] if re.fullmatch(r"v\d+", words[-1]) else words[-1]

    def _linker_flags(self) -> str:
        version = self.component.version
        values = {"version": version, "minor": version.split(".")[1]}
        # Without a build id: it is a digest of, among others, where the C libraries lie.
        flags = ["-s", "-w", "-buildid="]
        if self.component.cgo:
            flags += ["-linkmode", "external", "-extldflags", "-static"]
        flags += [f"-X {name}={value.format(**values)}" for name, value in self.component.stamps.items()]
        return " ".join(flags)

    def _compile_c(self, program: str, file: Path, version: str) -> None:
        # Flags of build/pause/Makefile in k8s.io/kubernetes
        flags = ["-Os", "-Wall", "-Werror", "-static", "-s", "-Wl,--build-id=none", f"--sysroot={self.sysroot}"]
        run("gcc", *flags, f"-DVERSION=v{version}", "-o", self.folder / "bin" / program, file.name, cwd=file.parent)

    def _write_main(self) -> None:
        file = self._module_folder(self.component.module) / self.component.main["file"]
        text = file.read_text()
        for package in self.component.main["without"]:
            text, count = re.subn(rf'^\s*_ "{re.escape(package)}"\n', "", text, flags=re.MULTILINE)
            if count != 1:
                raise RuntimeError(f"{file}: imports {package} {count} times, not once: see `main` in matrix.toml")
        (self.source / "main.go").write_text(text)

    def _module_folder(self, module: str) -> Path:
        # Downloads the module if need be; go.sum vouches for it.
        text = run("go", "mod", "download", "-json", module, cwd=self.source, env=self.environment)
        return Path(json.loads(text)["Dir"])

    def _modules(self) -> dict[str, Any]:
        """Return what the programs say they were built from: module -> version and go.sum's digest of it."""
        modules: dict[str, Any] = {}
        for program in self.component.programs:
            information = json.loads(run("go", "version", "-m", "-json", self.folder / "bin" / program))
            for module in (information["Main"], *information.get("Deps", ())):
                module = module.get("Replace", module)
                if module["Version"] != _OWN:
                    modules[module["Path"]] = {"version": module["Version"], "sum": module["Sum"]}
        return modules


def _environment(component: Component, sysroot: Path) -> dict[str, str]:
    """Fix what decides the programs' bytes; where modules come from stays as the user's Go settings say."""
    environment = {
        "CGO_ENABLED": "1" if component.cgo else "0",
        "GOAMD64": "v1",
        "GOARCH": "amd64",
        "GOEXPERIMENT": "",
        # The compiler, not the programs: it would collect its garbage for a quarter of its time. Two run at once.
        "GOGC": "off",
        "GOMEMLIMIT": "1GiB",
        "GOFLAGS": "-mod=readonly -trimpath -buildvcs=false",
        "GOOS": "linux",
        "GOWORK": "off",
    }
    if component.cgo:
        environment |= {
            "CC": "gcc",
            "CGO_CFLAGS": f"-O2 --sysroot={sysroot}",
            "CGO_LDFLAGS": f"-O2 --sysroot={sysroot}",
            "PKG_CONFIG_LIBDIR": str(sysroot / "usr/lib/x86_64-linux-gnu/pkgconfig"),
            "PKG_CONFIG_SYSROOT_DIR": str(sysroot),
        }
    return environment


def _by_tags(component: Component) -> Iterator[tuple[list[str], list[str]]]:
    groups: dict[tuple[str, ...], list[str]] = {}
    for program in component.programs:
        tags = (*component.tags, *component.extra_tags.get(program, ()))
        groups.setdefault(tags, []).append(program)
    return ((list(tags), programs) for tags, programs in groups.items())


def _copy_readable(source: Path, target: Path) -> None:
    """Copy files of the module cache, which are read-only."""
    if source.is_file():
        source_files = {target / source.name: source}
    else:
        source_files = {target / path.relative_to(source): path for path in source.rglob("*") if path.is_file()}
    for copy, path in source_files.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
