import json
import subprocess

import pytest

from lab import artifacts
from lab.artifacts import collection, matrix

RELEASE = matrix.release("1.36.3")


def fake_kubeadm(folder, images) -> None:
    (folder / "bin").mkdir(parents=True)
    kubeadm = folder / "bin" / "kubeadm"
    kubeadm.write_text("#!/bin/sh\necho " + " ".join(images) + "\n")
    kubeadm.chmod(0o755)


@pytest.fixture
def built(tmp_path):
    """Folders as the builds leave them: component -> folder, archive -> folder, Debian base."""
    components = {name: tmp_path / "components" / name for name in RELEASE.components}
    fake_kubeadm(components["kubernetes"], [image.reference for image in RELEASE.images[:7]])
    for name, component in RELEASE.components.items():
        (components[name] / "bin").mkdir(parents=True, exist_ok=True)
        for program in {*component.programs, *component.c_programs} - {"kubeadm"}:
            (components[name] / "bin" / program).write_text(program)
        for manifest in component.manifests:
            (components[name] / "manifests" / manifest).mkdir(parents=True)
            (components[name] / "manifests" / manifest / "all.yaml").write_text(manifest)
        (components[name] / "modules.json").write_text("{}")
    archives = {image.archive: tmp_path / "images" / image.archive for image in RELEASE.images}
    for name, folder in archives.items():
        folder.mkdir(parents=True)
        (folder / f"{name}.tar").write_text(name)
        (folder / "digest").write_text(f"sha256:{name}\n")
    (tmp_path / "packages.json").write_text('{"iptables": "1.8.9-2"}')
    return components, archives, tmp_path


def test_collects_checksums_that_hold(built, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    collection.collect(folder, RELEASE, *built)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=True)
    listed = {line.split("  ")[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there - listed == {"SHA256SUMS"}
    assert {"bin/kubelet", "cni/flannel", "images/pause.tar", "manifests/snapshot-crds/all.yaml"} <= listed
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["files"].keys() == there - {"SHA256SUMS", "versions.json"}
    assert versions["components"]["runc"]["version"] == RELEASE.components["runc"].version
    (etcd,) = (image for image in versions["images"] if image["archive"] == "images/etcd.tar")
    assert etcd["name"] == "registry.k8s.io/etcd"
    assert etcd["digest"] == "sha256:etcd"
    assert etcd["sha256"] == versions["files"]["images/etcd.tar"]["sha256"]


def test_refuses_when_kubeadm_wants_another_image(built, tmp_path):
    kubeadm = built[0]["kubernetes"] / "bin" / "kubeadm"
    kubeadm.write_text("#!/bin/sh\necho registry.k8s.io/etcd:9.9.9-0\n")
    with pytest.raises(RuntimeError, match=r"1\.36\.3: kubeadm wants registry\.k8s\.io/etcd:9\.9\.9-0, .*not made"):
        collection.collect(tmp_path / "out", RELEASE, *built)


def test_names_everything_the_machine_lacks(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    problems = artifacts.problems()
    assert [problem.split(":")[0] for problem in problems] == [*artifacts.PROGRAMS, "go"]
    assert "go1.26" in problems[-1]
