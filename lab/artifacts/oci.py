"""Container images as OCI archives, packed without a container engine; the same input gives the same bytes.

Formats: https://github.com/opencontainers/image-spec (v1.1: layout, manifest, configuration, zstd layers).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import subprocess
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from lab.artifacts.matrix import Image
from lab.files import sha256
from lab.rootfs import EPOCH

_CREATED = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH))
_TYPE = "application/vnd.oci.image."
_SEARCH_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A fixed number of threads: zstd's output differs between one thread and several.
_ZSTD = ("zstd", "-3", "-T2", "-q", "-c")

# Path in the archive = content; a number is a folder of that mode. Folders above files need not be named.
Files = Mapping[str, Path | bytes | int]


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


@dataclasses.dataclass(frozen=True)
class Layer:
    """A compressed file system layer.

    blob: the file with it. digest, diff_id: SHA-256 of it, and of what it unpacks to.
    """

    blob: Path
    digest: str
    diff_id: str

    @classmethod
    def load(cls, folder: Path) -> Layer:
        """Return the layer that `write_layer` or `compress` left in a folder."""
        return cls(blob=folder / "layer.tar.zst", **json.loads((folder / "layer.json").read_text()))


def write_tar(sink: _Sink, files: Files, *, executable: bool) -> None:
    """Write files and the folders above them as a tar archive: sorted, owned by root, all of one time."""
    given = {name.strip("/"): content for name, content in files.items()}
    folders = {str(parent): 0o755 for name in given for parent in Path(name).parents if parent.name}
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:  # type: ignore[call-overload]
        for name, content in sorted((folders | given).items()):
            _add(tar, name, content, 0o755 if executable else 0o644)


def _add(tar: tarfile.TarFile, name: str, content: Path | bytes | int, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.mtime, entry.mode = EPOCH, mode
    if isinstance(content, int):
        entry.type, entry.mode = tarfile.DIRTYPE, content
        tar.addfile(entry)
        return
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as data:
        entry.size = data.seek(0, io.SEEK_END)
        data.seek(0)
        tar.addfile(entry, data)


class _Compressor:
    """Compresses what is written to it into a file and digests both sides."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blob = folder / "layer.tar.zst"
        self._plain = hashlib.sha256()

    def __enter__(self) -> _Compressor:
        with self._blob.open("wb") as output:
            self._zstd = subprocess.Popen(_ZSTD, stdin=subprocess.PIPE, stdout=output)
        return self

    def write(self, data: bytes, /) -> int:
        self._plain.update(data)
        return self._input.write(data)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._input.close()
        code = self._zstd.wait()
        if kind is None and code:
            raise RuntimeError(f"{' '.join(_ZSTD)}: exit code {code}")
        layer = {"digest": "sha256:" + sha256(self._blob), "diff_id": "sha256:" + self._plain.hexdigest()}
        (self._folder / "layer.json").write_text(json.dumps(layer, indent=1) + "\n")

    @property
    def _input(self) -> IO[bytes]:
        assert self._zstd.stdin  # noqa: S101  a pipe was asked for
        return self._zstd.stdin


def write_layer(folder: Path, files: Files, *, executable: bool = True) -> Layer:
    """Make a layer of files (path in the image = content) in a folder."""
    with _Compressor(folder) as sink:
        write_tar(sink, files, executable=executable)
    return Layer.load(folder)


def compress(folder: Path, tar: Path) -> Layer:
    """Make a layer of a tar archive in a folder."""
    with _Compressor(folder) as sink, tar.open("rb") as data:
        while block := data.read(1 << 20):
            sink.write(block)
    return Layer.load(folder)


def write_archive(archive: Path, image: Image, layers: Sequence[Layer]) -> str:
    """Pack an image as a tar archive of an OCI layout; return its manifest's digest (`sha256:...`)."""
    blobs: dict[str, Path | bytes] = {layer.digest: layer.blob for layer in layers}

    def blob(kind: str, content: dict[str, Any]) -> dict[str, Any]:
        data = _json(content)
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": _TYPE + kind, "digest": digest, "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": _TYPE + "manifest.v1+json",
        "config": blob("config.v1+json", _configuration(image, layers)),
        "layers": [
            {"mediaType": _TYPE + "layer.v1.tar+zstd", "digest": layer.digest, "size": layer.blob.stat().st_size}
            for layer in layers
        ],
    }
    entry = blob("manifest.v1+json", manifest) | {
        "platform": {"architecture": "amd64", "os": "linux"},
        # The second is the specification's; containerd takes the full name from the first.
        "annotations": {"io.containerd.image.name": image.reference, "org.opencontainers.image.ref.name": image.tag},
    }
    index = {"schemaVersion": 2, "mediaType": _TYPE + "index.v1+json", "manifests": [entry]}
    files = {f"blobs/{digest.replace(':', '/')}": content for digest, content in blobs.items()}
    files |= {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    with archive.open("wb") as sink:
        write_tar(sink, files, executable=False)
    return str(entry["digest"])


def _configuration(image: Image, layers: Sequence[Layer]) -> dict[str, Any]:
    run: dict[str, Any] = {"Env": [_SEARCH_PATH], "WorkingDir": "/", "User": f"{image.user}:{image.user}"}
    if image.entrypoint:
        run["Entrypoint"] = image.entrypoint
    if image.command:
        run["Cmd"] = image.command
    return {
        "architecture": "amd64",
        "os": "linux",
        "created": _CREATED,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": _CREATED, "created_by": "managed-k8s lab"} for _ in layers],
    }


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
