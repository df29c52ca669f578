"""Whatever is written is either whole settings or sentences; every kind of mistake has its own words."""

import copy
import json

import hypothesis
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_k8s.config import kubernetes_versions, profiles, settings, validation
from managed_k8s.config.settings import InvalidError

LEAST = {
    "openstack": {"cloud": "c", "external_network": "external"},
    "artifacts": {"url": "http://10.77.0.10"},
}


def complete(content):
    """Return the settings as plain data."""
    return settings.complete({"managed_k8s": content}, "demo.sls").model_dump(mode="json")


def taken_or_explained(content):
    """Return the settings, and what is wrong with them."""
    try:
        return complete(content), []
    except InvalidError as error:
        return None, error.problems


def leaves(rule=None, path=()):
    """Yield (path, rule) of every setting that is no table of settings."""
    for name, one in (rule or settings.schema())["properties"].items():
        if "properties" in one:
            yield from leaves(one, (*path, name))
        else:
            yield (*path, name), one


def changed(path, value):
    content = copy.deepcopy(LEAST)
    table = content
    for name in path[:-1]:
        table = table.setdefault(name, {})
    table[path[-1]] = value
    return content


def at(content, path):
    for name in path:
        content = content[name]
    return content


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("gateway.connection_timeout_hours", 0, "0 must be 1 to 168"),
        ("gateway.connection_timeout_hours", "24", "'24' must be of type integer"),
        ("gateway.connection_timeout_hours", True, "True must be of type integer"),
        ("gateway.advertisement_interval", 9, "9 must be 0.05 to 5"),
        ("openstack.cloud", "", "'' must not be empty"),
        ("openstack.api_allowed_cidrs", [], "[] must not be empty"),
        ("openstack.dns_servers", "10.0.0.1", "'10.0.0.1' must be of type array"),
        ("openstack.access_rules", "yes", "'yes' must be of type boolean"),
        ("openstack.virtual_ip", 5, "5 must be of type string"),
        ("openstack.virtual_ip", "ten", "'ten' is no IPv4 address; write it like 10.30.0.5"),
        (
            "openstack.network_cidr",
            "10.30.0.1/24",
            "'10.30.0.1/24' is no IPv4 network; write it like 10.30.0.0/24, without host bits",
        ),
        (
            "backup.schedule",
            "often",
            "'often' is no schedule in cron form; write it like */15 * * * *, in UTC",
        ),
        ("kubernetes.cni", "calico", "'calico' is not one of flannel, none"),
        ("kubernetes.kubelet", [], "[] must be of type object"),
        ("metrics.file", 5, "5 must be of type string or null"),
        ("metrics.file", "x", "'x' does not match ^/.*[.]prom$; write it like /var/lib/node_exporter/demo.prom"),
        (
            "artifacts.url",
            "mirror",
            "'mirror' does not match ^https?://[^ ]+[^/ ]$; write it like http://mirror.example.org",
        ),
        (
            "artifacts.sha256",
            "x",
            "'x' does not match ^[0-9a-f]{64}$; SHA-256 of kubernetes/<version>/SHA256SUMS on the mirror; "
            "null: what is seen first is trusted and kept",
        ),
        (
            "backup.retention.lst",
            1,
            "no such setting; did you mean last? There are last, hourly, daily, weekly, monthly",
        ),
        ("storage.x", 1, "no such setting; there are volume_type, availability_zone"),
    ],
)
def test_every_kind_of_mistake_has_its_sentence(path, value, sentence):
    with pytest.raises(InvalidError) as caught:
        complete(changed(path.split("."), value))
    assert caught.value.problems == [f"demo.sls: {path}: {sentence}"]


def test_only_the_items_of_a_list_are_wrong_when_they_are():
    with pytest.raises(InvalidError) as caught:
        complete(changed(("openstack", "api_allowed_cidrs"), ["x"]))
    (problem,) = caught.value.problems
    assert problem.startswith("demo.sls: openstack.api_allowed_cidrs.0: 'x' is no IPv4 network; ")


def test_what_is_missing_says_what_it_is():
    with pytest.raises(InvalidError) as caught:
        complete({"openstack": {"cloud": "c"}})
    assert caught.value.problems == [
        "demo.sls: artifacts: is missing; Where programs, images and packages come from; docs/mirror.md",
        "demo.sls: openstack.external_network: is missing; Network that floating IPs come from",
    ]


@pytest.mark.parametrize("network", ["10.30.0.5/32", "10.30.0.4/31", "255.255.255.255/32", "0.0.0.0/0"])
def test_a_network_of_any_size_is_a_message(network):
    with pytest.raises(InvalidError, match=r"openstack\.network_cidr"):
        complete(changed(("openstack", "network_cidr"), network))


def test_contradictions_are_all_said_at_once():
    content = changed(("kubernetes", "version"), "1.12.0")
    content["openstack"] |= {"virtual_ip": "10.31.0.5", "dns_servers": ["10.96.0.10"]}
    with pytest.raises(InvalidError) as caught:
        complete(content)
    assert [problem.split()[1] for problem in caught.value.problems] == [
        "openstack.virtual_ip", "openstack.dns_servers", "kubernetes.version",
    ]  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
    | st.sampled_from(["10.0.0.0/8", "10.0.0.1", "0.0.0.0/0", "* * * * *", "none", "1.37.2", 1, 30, "http://10.96.0.1"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from([path for path, _ in leaves()]), JSON, max_size=6))
@hypothesis.settings(deadline=None)
def test_any_value_of_any_setting_is_taken_as_it_is_or_explained(values):
    content = copy.deepcopy(LEAST)
    for path, value in values.items():
        table = content
        for name in path[:-1]:
            table = table.setdefault(name, {})
        table[path[-1]] = value
    found, problems = taken_or_explained(content)
    assert bool(found) != bool(problems)
    for problem in problems:
        assert problem.startswith("demo.sls: ")
        # What the library itself would say.
        assert "Input should" not in problem
        assert "Value error" not in problem
    if found:
        assert all(at(found, path) == value for path, value in values.items() if not isinstance(value, str))
        assert complete(found) == found
        assert json.loads(json.dumps(found)) == found


def test_what_is_not_set_has_its_default():
    found = complete(LEAST)
    for path, rule in leaves():
        assert at(found, path) == rule.get("default", at(LEAST, path) if "default" not in rule else None)


def test_settings_stay_as_they_are():
    found = settings.complete({"managed_k8s": LEAST}, "demo.sls")
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        found.kubernetes.version = "1.37.2"
    found.kubernetes.kubelet["maxPods"] = 5
    assert complete(LEAST)["kubernetes"]["kubelet"] == {}


def test_networks_are_written_in_one_way():
    content = changed(("openstack", "api_allowed_cidrs"), ["192.0.2.7", "198.51.100.0/255.255.255.0"])
    assert complete(content)["openstack"]["api_allowed_cidrs"] == ["192.0.2.7/32", "198.51.100.0/24"]


def test_a_new_cluster_begins_with_a_version_that_can_be_installed():
    assert kubernetes_versions.DEFAULT in kubernetes_versions.SUPPORTED


PROFILE = profiles.Profile.__annotations__.keys()
KEYS = st.sampled_from([*PROFILE, "network", "fixed_ip", "allowed_address_pairs", "security_groups", "port", "size", 5])


@given(
    st.dictionaries(
        KEYS,
        st.recursive(
            JSON, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=5
        ),
    )
)
@hypothesis.settings(deadline=None)
def test_any_profile_is_good_or_explained(profile):
    for problem in profiles.problems("profile p", profile):
        assert problem.startswith("profile p: ")
        assert "Input should" not in problem
        assert "Value error" not in problem


def test_a_schema_is_written_out():
    text = json.dumps(validation.schema(settings.Settings))
    assert "$ref" not in text
    assert "$defs" not in text
