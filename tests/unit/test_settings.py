import copy
from pathlib import Path

import pytest
import salt.config
from hypothesis import given
from hypothesis import strategies as st

from managed_k8s import inputs, settings, settings_reference, verbs
from managed_k8s.cluster_map import MapError, read, read_profiles
from managed_k8s.settings import InvalidError

LEAST = {
    "openstack": {"cloud": "c", "external_network": "external"},
    "artifacts": {"url": "http://10.77.0.10"},
}
CHECKOUT = Path(__file__).resolve().parents[2]


def complete(**changes):
    content = copy.deepcopy(LEAST)
    for path, value in changes.items():
        table, _, key = path.partition("__")
        content.setdefault(table, {})[key] = value
    return settings.complete({"managed_k8s": content}, "demo.sls")


def problems(**changes):
    with pytest.raises(InvalidError) as caught:
        complete(**changes)
    return caught.value.problems


def test_three_settings_are_enough():
    found = complete()
    assert found["kubernetes"]["version"] in settings.versions()
    assert found["gateway"]["advertisement_interval"] == 0.1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"openstack__clod": "x"}, ["openstack.clod", "did you mean cloud?"]),
        ({"kubernetes__version": "1.12.0"}, ["kubernetes.version 1.12.0", "1.36.3, 1.37.2"]),
        ({"kubernetes__cni": "calico"}, ["kubernetes.cni", "flannel, none"]),
        ({"openstack__virtual_ip": "10.31.0.5"}, ["openstack.virtual_ip 10.31.0.5", "10.30.0.0/24"]),
        ({"openstack__virtual_ip": "10.30.0.255"}, ["openstack.virtual_ip", "last"]),
        ({"openstack__virtual_ip": "ten"}, ["openstack.virtual_ip", "no IPv4 address"]),
        ({"openstack__network_cidr": "10.30.0.1/24"}, ["network_cidr", "host bits"]),
        ({"kubernetes__pod_cidr": "10.96.0.0/16"}, ["pod_cidr", "overlaps", "service_cidr"]),
        ({"gateway__advertisement_interval": "fast"}, ["advertisement_interval", "number"]),
        ({"openstack__api_allowed_cidrs": "0.0.0.0/0"}, ["api_allowed_cidrs", "array"]),
        ({"artifacts__url": "mirror"}, ["artifacts.url"]),
    ],
)
def test_says_which_key_and_what_is_allowed(changes, words):
    (problem,) = problems(**changes)
    assert all(word in problem for word in words), problem


def test_says_everything_at_once():
    assert len(problems(openstack__clod="x", kubernetes__cni="calico", gateway__connection_timeout_hours=0)) == 3


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.sampled_from(
        ["openstack", "kubernetes", "cloud", "network_cidr", "virtual_ip", "managed_k8s"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_whatever_is_written_is_accepted_or_refused(content):
    for whole in (content, {"managed_k8s": content}):
        try:
            settings.complete(whole, "demo.sls")
        except InvalidError as error:
            refused = len(error.problems)
        else:
            refused = 1
        assert refused


def test_the_reference_is_current():
    assert settings_reference.FILE.read_text() == settings_reference.text(), (
        "run: python -m managed_k8s.settings_reference"
    )


def test_every_setting_is_described():
    for table, rule in settings.schema()["properties"].items():
        for name, one in rule["properties"].items():
            assert one.get("description"), f"{table}.{name}"
            assert name in rule.get("required", ()) or "default" in one


@pytest.mark.parametrize("content", ["[1]", "a: [", "a: [1]", "a: [{1: 2}]", "a: 5", "\t", "a: [x]\nb: [x]"])
def test_a_wrong_map_is_a_message(tmp_path, content):
    file = tmp_path / "cluster.map"
    file.write_text(content)
    with pytest.raises(MapError, match=r"cluster\.map"):
        read(file)


def test_reads_both_forms_of_a_map(tmp_path):
    file = tmp_path / "cluster.map"
    file.write_text("p: [a-master-1, {a-master-2: {flavor: x}}]\nq: [b-worker-1]\n")
    assert read(file) == {"a-master-1": "p", "a-master-2": "p", "b-worker-1": "q"}


@pytest.mark.parametrize("content", ["a: 5", "a: {extends: b}", "a: {extends: a}", "{"])
def test_wrong_profiles_are_a_message(tmp_path, content):
    (tmp_path / "x.conf").write_text(content)
    with pytest.raises(MapError):
        read_profiles(tmp_path)


# Files as the Salt master reads them


def master_opts(folder):
    # Not by `|`, which forgets the defaults of Salt's kind of dictionary.
    return {**salt.config.master_config(str(folder / "master"))}


@pytest.fixture
def opts(tmp_path):
    (tmp_path / "pillar" / "clusters").mkdir(parents=True)
    (tmp_path / "cloud.profiles.d").mkdir()
    (tmp_path / "cluster.map").write_text("{}")
    found = master_opts(tmp_path)
    return found | {"managed_k8s": {"checkout": str(tmp_path)}, "cachedir": str(tmp_path), "root_dir": str(tmp_path)}


@pytest.mark.parametrize(
    "content",
    [
        "", "managed_k8s:", "managed_k8s: [1]", "- 1", "a: b: c", "{{ nothing.here }}", "{% if %}", "\t- x",
        "managed_k8s: {openstack: [1]}", "managed_k8s: {1: 2}", "managed_k8s: {kubernetes: null}", "\x00", "\udc80",
    ],
)  # fmt: skip
def test_a_broken_file_is_a_message(opts, tmp_path, content):
    (tmp_path / "pillar" / "clusters" / "demo.sls").write_text(content, errors="surrogateescape")
    with pytest.raises(InvalidError, match=r"demo\.sls"):
        inputs.load(opts, "demo")


def test_jinja_is_rendered(opts, tmp_path):
    file = tmp_path / "pillar" / "clusters" / "demo.sls"
    file.write_text(
        "{% set cloud = 'mine' %}\nmanaged_k8s:\n  openstack: {cloud: {{ cloud }}, external_network: e}\n"
        "  artifacts: {url: 'http://mirror'}\n"
    )
    assert inputs.load(opts, "demo")["openstack"]["cloud"] == "mine"


@pytest.mark.parametrize("name", ["../../etc/passwd", "nobody", "", "A"])
def test_there_are_no_settings_of_others(opts, name):
    with pytest.raises(InvalidError):
        inputs.load(opts, name)


def test_the_only_cluster_need_not_be_named(opts, tmp_path):
    with pytest.raises(verbs.VerbError, match="there is none"):
        verbs.choose(opts, None)
    folder = tmp_path / "pillar" / "clusters"
    (folder / "one.sls").write_text("")
    assert verbs.choose(opts, None) == "one"
    (folder / "two.sls").write_text("")
    with pytest.raises(verbs.VerbError, match="there are one, two"):
        verbs.choose(opts, None)


@pytest.mark.parametrize("masters", [0, 2, 4, 6])
def test_an_even_number_of_masters_is_refused(masters):
    names = {f"demo-master-{n}": "p" for n in range(1, masters + 1)} | {"demo-gateway-1": "p"}
    profiles = {"p": {"cluster": "demo", "networks": [{"network": "demo"}]}}
    (problem,) = settings.map_problems("demo", complete(), names, profiles)
    assert "1, 3 or 5" in problem


def test_what_is_checked_in_is_in_order(tmp_path):
    opts = master_opts(tmp_path) | {"managed_k8s": {"checkout": str(CHECKOUT)}}
    assert inputs.checked(opts, "demo")
