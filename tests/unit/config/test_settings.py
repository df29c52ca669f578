import contextlib
import copy
from pathlib import Path

import hypothesis
import pytest
import salt.config
import yaml
from hypothesis import given
from hypothesis import strategies as st

from managed_k8s import errors
from managed_k8s.config import cluster_map, consistency, kubernetes_versions, load, reference, settings
from managed_k8s.config.cluster_map import MapError
from managed_k8s.config.settings import InvalidError
from managed_k8s.operations import clusters
from managed_k8s.state import immutable_settings
from managed_k8s.state.store import Store

LEAST = {
    "openstack": {"cloud": "c", "external_network": "external"},
    "artifacts": {"url": "http://10.77.0.10"},
}
CHECKOUT = Path(__file__).resolve().parents[3]


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
    assert found.kubernetes.version in kubernetes_versions.SUPPORTED
    assert found.gateway.advertisement_interval == 0.1


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
        ({"kubernetes__service_cidr": "10.96.0.0/11"}, ["service_cidr 10.96.0.0/11 is too large", "/12"]),
        ({"kubernetes__pod_cidr": "10.244.0.0/24"}, ["pod_cidr 10.244.0.0/24 is too small", "/22"]),
        ({"kubernetes__pod_cidr": "169.254.0.0/16"}, ["pod_cidr", "reserved"]),
        ({"openstack__dns_servers": ["10.96.0.10"]}, ["dns_servers 10.96.0.10 is in kubernetes.service_cidr"]),
        ({"kubernetes__pod_cidr": "10.77.0.0/16"}, ["artifacts.url 10.77.0.10 is in kubernetes.pod_cidr"]),
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


def test_the_page_and_the_schema_are_current():
    assert reference.PAGE.read_text() == reference.page(), "run: make docs"
    assert reference.SCHEMA.read_text() == reference.schema(), "run: make docs"


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), object(), {(1, 2): 3}])
def test_what_is_no_plain_data_is_refused(value):
    with pytest.raises(InvalidError, match=r"demo\.sls"):
        settings.complete({"managed_k8s": {"openstack": value}}, "demo.sls")


def test_every_setting_is_described():
    for table, rule in settings.schema()["properties"].items():
        for name, one in rule["properties"].items():
            assert one.get("description"), f"{table}.{name}"
            assert name in rule.get("required", ()) or "default" in one


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
        load.load(opts, "demo")


def test_jinja_is_rendered(opts, tmp_path):
    file = tmp_path / "pillar" / "clusters" / "demo.sls"
    file.write_text(
        "{% set cloud = 'mine' %}\nmanaged_k8s:\n  openstack: {cloud: {{ cloud }}, external_network: e}\n"
        "  artifacts: {url: 'http://mirror'}\n"
    )
    assert load.load(opts, "demo").openstack.cloud == "mine"


@pytest.mark.parametrize("name", ["../../etc/passwd", "nobody", "", "A"])
def test_there_are_no_settings_of_others(opts, name):
    with pytest.raises(InvalidError):
        load.load(opts, name)


def test_the_only_cluster_need_not_be_named(opts, tmp_path):
    with pytest.raises(errors.RequestError, match="there is none"):
        clusters.choose(opts, None)
    folder = tmp_path / "pillar" / "clusters"
    (folder / "one.sls").write_text("")
    assert clusters.choose(opts, None) == "one"
    (folder / "two.sls").write_text("")
    with pytest.raises(errors.RequestError, match="there are one, two"):
        clusters.choose(opts, None)


@pytest.mark.parametrize("masters", [0, 2, 4, 6])
def test_an_even_number_of_masters_is_refused(masters):
    names = [*(f"demo-master-{n}" for n in range(1, masters + 1)), "demo-gateway-1"]
    (problem,) = consistency.of_counts("demo", complete(), names)
    assert "1, 3 or 5" in problem


@pytest.mark.parametrize(
    ("workers", "words"),
    [(5, None), (16, "kubernetes.pod_cidr 10.244.0.0/20 is too small for the 17"), (30, "network_cidr 10.30.0.0/27")],
)
def test_there_is_an_address_for_each_server_and_a_network_for_each_node(workers, words):
    names = ["demo-gateway-1", "demo-master-1", *(f"demo-worker-{n}" for n in range(1, workers + 1))]
    found = complete(kubernetes__pod_cidr="10.244.0.0/20", openstack__network_cidr="10.30.0.0/27")
    problems = consistency.of_counts("demo", found, names)
    assert any(words in problem for problem in problems) if words else problems == []


# Files that all clusters share


def write(opts, name, content):
    file = Path(opts["managed_k8s"]["checkout"]) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


@pytest.mark.parametrize("content", ["[1]", "a: [", "5: [a]", "a: [x]\na: [y]", "{% if %}"])
def test_a_map_that_cannot_be_read_is_a_message(opts, content):
    write(opts, "cluster.map", content)
    with pytest.raises(MapError, match=r"cluster\.map"):
        load.server_map(opts)


@pytest.mark.parametrize(
    "content", ["a: [1]", "a: [{1: 2}]", "a: 5", "a:", "a: [x]\nb: [x]", "a: [{x: 5}]", "a: [[x]]"]
)
def test_a_wrong_entry_is_a_message(opts, content):
    write(opts, "cluster.map", content)
    (fault,) = load.server_map(opts).faults
    assert fault.text.startswith("cluster.map: ")


def test_reads_every_form_of_a_map(opts):
    write(opts, "cluster.map", "p: [a-master-1, {a-master-2: {flavor: x}}]\nq: b-worker-1\nr: {c: {}, d: {}}\n")
    found = load.server_map(opts).servers
    assert {name: entry.profile for name, entry in found.items()} == {
        "a-master-1": "p", "a-master-2": "p", "b-worker-1": "q", "c": "r", "d": "r",
    }  # fmt: skip
    assert found["a-master-2"].overrides == {"flavor": "x"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("p: 5", "p must be a table"),
        ("p: {extends: b}", "extends 'b'"),
        ("p: {extends: p}", "extends 'p'"),
        ("p: {extends: [p]}", "extends"),
        ("{", "is no YAML"),
        ("1: {}", "1 must be a text"),
        ("p: {}\np: {}", "conflicting"),
        ("q: {}", "there are q"),
    ],
)
def test_a_wrong_profile_says_why_it_is_missing(tmp_path, content, words):
    (tmp_path / "x.conf").write_text(content)
    assert words in cluster_map.read_profiles(tmp_path).missing("p")


def test_profiles_are_extended_as_salt_cloud_does(tmp_path):
    (tmp_path / "x.conf").write_text(
        "a: {flavor: x, metadata: {one: '1'}, networks: [{network: n}]}\n"
        "b: {extends: a, metadata: {two: '2'}, networks: []}\nc: {extends: b, flavor: y}\n"
    )
    assert cluster_map.read_profiles(tmp_path).good["c"] == {
        "flavor": "y", "metadata": {"one": "1", "two": "2"}, "networks": [],
    }  # fmt: skip


ONE = """
managed_k8s:
  openstack: {cloud: lab, external_network: external}
  artifacts: {url: 'http://192.0.2.9'}
"""
PROFILES = """
{0}: {{provider: openstack, cluster: {0}, image: i, flavor: f}}
{0}-gateway: {{extends: {0}, networks: [{{network: {0}, security_groups: [{0}-gateway], allowed_address_pairs: [{{port: {0}-api}}]}}]}}
{0}-master: {{extends: {0}, networks: [{{network: {0}, security_groups: [{0}-master]}}]}}
"""  # noqa: E501


@pytest.fixture
def two(opts):
    """Two clusters, one and two."""
    for name in ("one", "two"):
        write(opts, f"pillar/clusters/{name}.sls", ONE)
        write(opts, f"cloud.profiles.d/{name}.conf", PROFILES.format(name))
    write(opts, "cloud.providers.d/openstack.conf", "openstack: {driver: openstack, cloud: lab, minion: {master: m}}")
    write(
        opts, "cluster.map", "".join(f"{n}-{r}: [{n}-{r}-1]\n" for n in ("one", "two") for r in ("gateway", "master"))
    )
    assert immutable_settings.checked(opts, "one")
    assert immutable_settings.checked(opts, "two")
    return opts


def test_what_the_map_says_of_a_server_lies_over_its_profile(two):
    write(
        two,
        "cluster.map",
        "one-gateway: [{one-gateway-1: {flavor: large}}, one-gateway-2]\ntwo-gateway: [two-gateway-1]",
    )
    found = load.keys(two, "one")
    assert {name: keys["flavor"] for name, keys in found.items()} == {"one-gateway-1": "large", "one-gateway-2": "f"}
    assert {keys["image"] for keys in found.values()} == {"i"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("pillar/clusters/two.sls", "wrong"),
        ("cloud.profiles.d/two.conf", "{"),
        ("cloud.profiles.d/two.conf", "two: 5"),
        ("cloud.profiles.d/two.conf", "two-gateway: {extends: nothing}"),
        ("cloud.providers.d/two.conf", "second: 5"),
        (
            "cluster.map",
            "one-gateway: [one-gateway-1]\none-master: [one-master-1]\ntwo-gateway: [web, {two-gateway-1: 5}]",
        ),
        (
            "cluster.map",
            "one-gateway: [one-gateway-1]\none-master: [one-master-1]\nx: [two-master-1]\ny: [two-master-1]",
        ),
    ],
)
def test_what_is_wrong_with_one_cluster_does_not_stop_the_other(two, name, content):
    write(two, name, content)
    assert immutable_settings.checked(two, "one")
    if "providers" not in name:
        with pytest.raises(InvalidError):
            immutable_settings.checked(two, "two")


def test_what_a_cluster_was_made_with_stays(two):
    immutable_settings.note(Store.of(two, "one"), load.load(two, "one"))
    changed = yaml.safe_load(ONE)
    changed["managed_k8s"]["kubernetes"] = {"cni": "none", "pod_cidr": "10.99.0.0/16"}
    for name in ("one", "two"):
        write(two, f"pillar/clusters/{name}.sls", yaml.safe_dump(changed))
    assert immutable_settings.checked(two, "two")
    with pytest.raises(InvalidError) as caught:
        immutable_settings.checked(two, "one")
    cni, pods = caught.value.problems
    assert "kubernetes.cni: is none, but one was made with flannel, which cannot be changed: set it back" in cni
    assert "kubernetes.pod_cidr: is 10.99.0.0/16, but one was made with 10.244.0.0/16" in pods
    # An init that is begun again does not change what was noted.
    immutable_settings.note(Store.of(two, "one"), load.load(two, "two"))
    with pytest.raises(InvalidError):
        immutable_settings.checked(two, "one")


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5)
    | st.sampled_from(["x", "one", "openstack", "one-gateway-1", "one-api"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["one", "one-gateway", "one-gateway-1", "networks", "network", "cluster", "provider", "extends",
                         "image", "flavor", "security_groups", "allowed_address_pairs", "minion", "driver", 5]),
        inner, max_size=4),
    max_leaves=15,
)  # fmt: skip


@given(st.sampled_from(["cluster.map", "cloud.profiles.d/one.conf", "cloud.providers.d/openstack.conf"]), YAML_VALUES)
@hypothesis.settings(
    max_examples=50, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
def test_whatever_the_shared_files_hold_is_accepted_or_refused(two, name, content):
    before = (Path(two["managed_k8s"]["checkout"]) / name).read_text()
    write(two, name, yaml.safe_dump(content))
    try:
        # Any other error is a traceback for the operator.
        with contextlib.suppress(InvalidError):
            immutable_settings.checked(two, "one")
    finally:
        write(two, name, before)


def test_what_is_checked_in_is_in_order(tmp_path):
    opts = master_opts(tmp_path) | {"managed_k8s": {"checkout": str(CHECKOUT)}}
    assert immutable_settings.checked(opts, "demo")
