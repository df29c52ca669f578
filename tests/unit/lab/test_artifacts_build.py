import shutil

import pytest

from lab import artifacts
from lab.artifacts import golang, matrix
from lab.cache import Cache, key
from lab.progress import Report


@pytest.fixture(autouse=True)
def go(monkeypatch):
    monkeypatch.setattr(golang, "version", lambda component: "go1.26.8")


def component_keys(tmp_path, kubernetes="1.36.3", compiler="12.2.0") -> dict[str, str]:
    release = matrix.release(kubernetes)
    builder = artifacts._Builder(Cache(tmp_path), release, Report(), tmp_path / "abc" / "root", compiler)
    return {name: key(builder._inputs(component, "3.10.2")) for name, component in release.components.items()}


def changed(one, two) -> set[str]:
    return {name for name in one if one[name] != two[name]}


def test_changed_pin_rebuilds_just_its_component(tmp_path, monkeypatch):
    before = component_keys(tmp_path)
    shutil.copytree(matrix.MODULES, tmp_path / "modules")
    monkeypatch.setattr(matrix, "MODULES", tmp_path / "modules")
    assert component_keys(tmp_path) == before
    with (tmp_path / "modules" / "runc" / "go.sum").open("a") as go_sum:
        go_sum.write("example.org/module v1.0.0 h1:\n")
    assert changed(before, component_keys(tmp_path)) == {"runc"}


def test_second_kubernetes_version_shares_what_is_the_same(tmp_path):
    assert changed(component_keys(tmp_path), component_keys(tmp_path, "1.37.2")) == {"kubernetes", "etcd", "coredns"}


def test_other_compiler_rebuilds_what_has_c_code(tmp_path):
    assert changed(component_keys(tmp_path), component_keys(tmp_path, compiler="14.2.0")) == {"kubernetes", "runc"}


def test_other_go_version_rebuilds_everything(tmp_path, monkeypatch):
    before = component_keys(tmp_path)
    monkeypatch.setattr(golang, "version", lambda component: "go1.26.9")
    assert changed(before, component_keys(tmp_path)) == before.keys()


@pytest.fixture
def flannel(tmp_path, monkeypatch):
    """A build of flannel whose module is a folder of ours."""
    component = matrix.release("1.36.3").components["flannel"]
    build = golang._Build(component, tmp_path, tmp_path, tmp_path, tmp_path / "log", print)
    monkeypatch.setattr(build, "_module_folder", lambda module: tmp_path / "module")
    (tmp_path / "module").mkdir()
    return build


def backends(*names) -> str:
    return "".join(f'\t_ "github.com/flannel-io/flannel/pkg/backend/{name}"\n' for name in names)


def test_main_is_upstreams_without_what_cannot_be_built(flannel, tmp_path):
    (tmp_path / "module" / "main.go").write_text(backends("ipip", "tencentvpc", "udp", "vxlan"))
    flannel._write_main()
    assert (tmp_path / "main.go").read_text() == backends("ipip", "vxlan")


def test_refuses_a_main_that_has_changed(flannel, tmp_path):
    (tmp_path / "module" / "main.go").write_text(backends("ipip", "udp"))
    with pytest.raises(RuntimeError, match=r"imports .*/tencentvpc 0 times"):
        flannel._write_main()


def test_executables_are_named_as_go_does(flannel):
    assert flannel._executable("go.etcd.io/etcd/etcdctl/v3") == "etcdctl"
    assert flannel._executable("k8s.io/kubernetes/cmd/kubelet") == "kubelet"
    assert flannel._executable(".") == "flannel"
