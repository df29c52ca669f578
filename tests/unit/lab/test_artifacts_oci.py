import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import IO, Any, cast

import pytest

from lab.artifacts import matrix, oci
from lab.files import sha256
from lab.rootfs import EPOCH

needs_zstd = pytest.mark.skipif(not shutil.which("zstd"), reason="zstd is not installed")
IMAGE = matrix.Image("pause", "registry.k8s.io/pause", "3.10.2", "scratch", {}, user=65535, entrypoint=("/pause",))
WITHOUT_ENTRYPOINT = matrix.Image("csi", "registry.k8s.io/csi", "v1", "scratch", {}, command=("/bin/csi",))


def layer_of(folder, data=b"layer") -> oci.Layer:
    folder.mkdir(exist_ok=True)
    (folder / "layer.tar.zst").write_bytes(data)
    return oci.Layer(folder / "layer.tar.zst", "sha256:" + hashlib.sha256(data).hexdigest(), "sha256:" + "0" * 64)


def packed(folder, image=IMAGE) -> tuple[Path, str]:
    folder.mkdir()
    digest = oci.write_archive(folder / "image.tar", image, [layer_of(folder)])
    return folder / "image.tar", digest


def contents(tar) -> dict[str, bytes]:
    with tarfile.open(tar) as archive:
        return {entry.name: cast(IO[bytes], archive.extractfile(entry)).read() for entry in archive if entry.isfile()}


def configuration(files) -> dict[str, Any]:
    manifest = json.loads(files[blob(json.loads(files["index.json"])["manifests"][0])])
    return cast(dict[str, Any], json.loads(files[blob(manifest["config"])]))


def blob(descriptor) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def test_tar_does_not_depend_on_order_place_time_or_owner(tmp_path):
    written = []
    for folder, names in (("one", ("a", "b")), ("two", ("b", "a"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(name)
        (tmp_path / folder / "a").chmod(0o600)
        sink = io.BytesIO()
        oci.write_tar(sink, {f"/bin/{name}": tmp_path / folder / name for name in names}, executable=True)
        written.append(sink.getvalue())
        (tmp_path / folder / "b").touch()
    assert written[0] == written[1]
    with tarfile.open(fileobj=io.BytesIO(written[0])) as archive:
        entries = {entry.name: entry for entry in archive}
    assert list(entries) == ["bin", "bin/a", "bin/b"]
    assert {(entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries.values()} == {(0, 0, "", EPOCH)}
    assert entries["bin"].isdir()
    assert entries["bin/a"].mode == 0o755


def test_folder_has_the_mode_it_is_given():
    sink = io.BytesIO()
    oci.write_tar(sink, {"/tmp": 0o1777, "/etc/passwd": b"root"}, executable=False)
    with tarfile.open(fileobj=io.BytesIO(sink.getvalue())) as archive:
        modes = {entry.name: (entry.isdir(), entry.mode) for entry in archive}
    assert modes == {"etc": (True, 0o755), "etc/passwd": (False, 0o644), "tmp": (True, 0o1777)}


@needs_zstd
def test_layer_is_what_its_digests_say(tmp_path):
    tar = tmp_path / "base.tar"
    with tar.open("wb") as sink:
        oci.write_tar(sink, {"/program": b"\x7fELF" * 1000}, executable=True)
    for name in ("files", "archive"):
        (tmp_path / name).mkdir()
    layer = oci.write_layer(tmp_path / "files", {"/program": b"\x7fELF" * 1000})
    assert oci.compress(tmp_path / "archive", tar).digest == layer.digest
    assert layer.digest == "sha256:" + sha256(layer.blob)
    plain = subprocess.run(["zstd", "-dc", layer.blob], check=True, capture_output=True).stdout
    assert plain == tar.read_bytes()
    assert layer.diff_id == "sha256:" + hashlib.sha256(plain).hexdigest()
    assert oci.Layer.load(tmp_path / "files") == layer


def test_archive_is_the_same_bytes_each_time(tmp_path):
    (one, first), (two, second) = packed(tmp_path / "one"), packed(tmp_path / "two")
    assert one.read_bytes() == two.read_bytes()
    assert first == second


def test_archive_is_a_valid_layout(tmp_path):
    tar, digest = packed(tmp_path / "image")
    files = contents(tar)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry["digest"] == digest
    assert entry["annotations"]["io.containerd.image.name"] == "registry.k8s.io/pause:3.10.2"
    manifest = json.loads(files[blob(entry)])
    descriptors = [entry, manifest["config"], *manifest["layers"]]
    for descriptor in descriptors:
        data = files[blob(descriptor)]
        assert descriptor["digest"] == "sha256:" + hashlib.sha256(data).hexdigest()
        assert descriptor["size"] == len(data)
    assert files.keys() == {"oci-layout", "index.json", *(blob(descriptor) for descriptor in descriptors)}
    assert [layer["mediaType"] for layer in manifest["layers"]] == ["application/vnd.oci.image.layer.v1.tar+zstd"]
    config = json.loads(files[blob(manifest["config"])])
    assert config["rootfs"]["diff_ids"] == ["sha256:" + "0" * 64]
    assert config["config"]["User"] == "65535:65535"
    assert config["config"]["Entrypoint"] == ["/pause"]


def test_image_without_entrypoint_has_none(tmp_path):
    run = configuration(contents(packed(tmp_path / "image", WITHOUT_ENTRYPOINT)[0]))["config"]
    assert "Entrypoint" not in run
    assert run["Cmd"] == ["/bin/csi"]
