import re

import pytest

from lab import settings
from lab.artifacts import matrix
from managed_k8s.config import kubernetes_versions

RELEASES = {version: matrix.release(version) for version in matrix.versions()}
# Libraries that these share are compiled once for all.
ON_KUBERNETES = (
    "cloud-provider-openstack",
    "coredns",
    "csi-attacher",
    "csi-node-driver-registrar",
    "csi-provisioner",
    "csi-resizer",
    "external-snapshotter",
    "flannel",
)
release = pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)


def test_builds_just_the_versions_that_the_settings_allow():
    assert matrix.versions() == settings.KUBERNETES_VERSIONS == kubernetes_versions.SUPPORTED


def test_refuses_a_version_without_pins():
    with pytest.raises(ValueError, match=r"1\.9\.9: no pins for it; there are 1\.36\.3, 1\.37\.2"):
        matrix.release("1.9.9")


@release
def test_kubernetes_and_its_staging_modules_are_of_that_version(release):
    component = release.components["kubernetes"]
    assert component.version == f"v{release.kubernetes}"
    replaced = re.findall(r"^replace (\S+) => (\S+) (\S+)$", (component.pins / "go.mod").read_text(), re.MULTILINE)
    assert len(replaced) > 30
    assert {version for *_, version in replaced} == {"v0." + release.kubernetes.removeprefix("1.")}
    assert all(old == new for old, new, _ in replaced)


@release
def test_every_program_is_pinned(release):
    for component in release.components.values():
        text = (component.pins / "go.mod").read_text()
        block = re.search(r"^tool \((.*?)^\)", text, re.MULTILINE | re.DOTALL)
        tools = set(block[1].split() if block else re.findall(r"^tool (\S+)$", text, re.MULTILINE))
        assert set(component.programs.values()) - {"."} == tools, component.name
        assert (component.pins / "go.sum").stat().st_size


@release
def test_what_runs_on_kubernetes_shares_library_versions(release):
    versions: dict[str, set[str]] = {}
    for name in ON_KUBERNETES:
        for module, version in matrix.required(release.components[name].pins / "go.mod").items():
            versions.setdefault(module, set()).add(version)
    assert {module: found for module, found in versions.items() if len(found) > 1} == {}


@release
def test_every_manifests_module_is_pinned(release):
    for component in release.components.values():
        modules = {module for module, _ in component.manifests.values()}
        assert modules <= matrix.required(component.pins / "go.mod").keys()


@release
def test_everything_installed_or_packed_is_built(release):
    built = {
        f"{component.name}/{program}"
        for component in release.components.values()
        for program in (*component.programs, *component.c_programs)
    }
    used = {program for programs in release.install.values() for program in programs}
    used |= {program for image in release.images for program in image.files.values()}
    assert used == built


@release
def test_tags_are_those_of_what_is_inside(release):
    tags = {image.archive: image.tag for image in release.images}
    assert tags["kube-apiserver"] == f"v{release.kubernetes}"
    assert tags["etcd"] == release.components["etcd"].version.removeprefix("v") + "-0"
    assert tags["coredns"] == release.components["coredns"].version
    assert len({image.reference for image in release.images}) == len(release.images) == len(tags)


def test_only_what_kubeadm_names_differs_between_versions():
    one, two = RELEASES.values()
    different = {name for name in one.components if one.components[name] != two.components[name]}
    assert different == {"kubernetes", "etcd", "coredns"}


@release
def test_provider_images_have_no_entrypoint(release):
    provider = [image for image in release.images if "/provider-os/" in image.name]
    assert len(provider) == 2
    for image in provider:
        assert not image.entrypoint
        assert image.command


@release
def test_no_file_replaces_a_link_of_debian(release):
    for image in release.images:
        if image.base == "debian":
            assert not [path for path in image.files if re.match(r"/(s?bin|lib\w*)/", path)], image.archive


@release
def test_images_can_run_what_they_name(release):
    for image in release.images:
        (program,) = image.entrypoint or image.command
        assert program in image.files or f"/usr{program}" in image.files


def test_required_reads_both_forms(tmp_path):
    go_mod = tmp_path / "go.mod"
    go_mod.write_text("module x\n\nrequire a.org/b v1.0.0\n\nrequire (\n\tc.org/d v0.1.0 // indirect\n)\n")
    assert matrix.required(go_mod) == {"a.org/b": "v1.0.0", "c.org/d": "v0.1.0"}
