"""The version matrix: what is built for a Kubernetes version, and from which pins."""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FILE = HERE / "matrix.toml"
MODULES = HERE / "modules"


@dataclasses.dataclass(frozen=True)
class Component:
    """A set of programs built from one pinned go.mod; the fields are explained in matrix.toml.

    pins: the folder with go.mod and go.sum, and our own code where there is some.
    """

    name: str
    pins: Path
    programs: dict[str, str]
    module: str = ""
    version: str = ""
    tags: tuple[str, ...] = ()
    extra_tags: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    stamps: dict[str, str] = dataclasses.field(default_factory=dict)
    cgo: bool = False
    c_programs: dict[str, str] = dataclasses.field(default_factory=dict)
    main: dict[str, Any] = dataclasses.field(default_factory=dict)
    manifests: dict[str, list[str]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Image:
    """A container image; the fields are explained in matrix.toml.

    archive: its file name without `.tar`.
    """

    archive: str
    name: str
    tag: str
    base: str
    files: dict[str, str]
    user: int = 0
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """The name with the tag, as a pod names it."""
        return f"{self.name}:{self.tag}"


@dataclasses.dataclass(frozen=True)
class Release:
    """Everything for one Kubernetes version.

    install: component/program by the folder it goes to.
    """

    kubernetes: str
    components: dict[str, Component]
    images: tuple[Image, ...]
    install: dict[str, list[str]]


def versions() -> tuple[str, ...]:
    """Return the Kubernetes versions that can be built."""
    return tuple(_read()["kubernetes"])


def release(kubernetes: str) -> Release:
    """Return what is built for a Kubernetes version.

    kubernetes: like `1.36.3`. Raises ValueError when there are no pins for it.
    """
    matrix = _read()
    if kubernetes not in matrix["kubernetes"]:
        raise ValueError(
            f"Kubernetes {kubernetes}: no pins for it; there are {', '.join(versions())} "
            "(docs/artifacts.md says how to add one)"
        )
    choice = matrix["kubernetes"][kubernetes]
    components = {name: _component(name, entry, choice) for name, entry in matrix["component"].items()}
    images = tuple(_image(name, entry, choice, components) for name, entry in matrix["image"].items())
    return Release(kubernetes, components, images, matrix["install"])


def required(go_mod: Path) -> dict[str, str]:
    """Return the modules that a go.mod requires, and their versions."""
    lines = re.findall(r"^(?:require )?\s*(\S+\.\S+/\S+) (v\S+)(?: // indirect)?$", go_mod.read_text(), re.MULTILINE)
    return dict(lines)


@functools.cache
def _read() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text())


def _component(name: str, entry: dict[str, Any], choice: dict[str, Any]) -> Component:
    pins = MODULES / name / choice["pins"].get(name, "")
    version = entry.get("version") or required(pins / "go.mod")[entry["module"]]
    tags = tuple(entry.get("tags", ()))
    return Component(**{**entry, "name": name, "pins": pins, "version": version, "tags": tags})


def _image(archive: str, entry: dict[str, Any], choice: dict[str, Any], components: dict[str, Component]) -> Image:
    entry = dict(entry)
    tag = components[entry.pop("component")].version
    words = {key: tuple(entry.get(key, ())) for key in ("entrypoint", "command")}
    return Image(**{**entry, **words, "archive": archive, "tag": choice["tags"].get(archive, tag)})
