"""What Prometheus is told, and the rules that alert on it."""

import re
import time

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from managed_k8s import paths
from managed_k8s.status import metrics, metrics_reference, status
from managed_k8s.status.facts import SOURCES
from tests.support import worlds as worlds

ROOT = paths.root()
RULES = yaml.safe_load((ROOT / "prometheus" / "alerts.yaml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"]]


def samples(world):
    """Return (name, labels but the cluster's) -> number."""
    found = {}
    for family in text_string_to_metric_families(metrics.text(status.status(world))):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("cluster") == "demo"
            found[sample.name.removeprefix("managed_k8s_"), tuple(sorted(labels.items()))] = sample.value
    return found


def of(name, found):
    return {labels: number for (each, labels), number in found.items() if each == name}


def labels(node):
    return (("node", node), ("role", node.split("-")[1]))


def test_a_cluster_that_is_well():
    found = samples(worlds.well())
    assert found["ready", ()] == 1
    assert (found["problems", ()], found["steps", ()], found["waiting", ()]) == (0, 0, 0)
    assert found["address_holders", ()] == 1
    assert found["gateway_has_address", labels("demo-gateway-1")] == 1
    assert found["gateway_has_address", labels("demo-gateway-2")] == 0
    assert len(of("gateway_has_address", found)) == 2
    assert len(of("node_ready", found)) == 5
    assert set(of("server_active", found).values()) == {1}
    assert found["certificate_end_timestamp_seconds", (("certificate", "ca"),)] == worlds.NOW + 3649 * worlds.DAY
    assert found["node_info", (*labels("demo-worker-1"), ("version", "1.36.3"))] == 1
    assert found["volumes", (("state", "attached"),)] == 1
    assert found["servers_wanted", (("role", "master"),)] == 3
    assert of("step_failures", found) == {}


def test_a_master_that_is_down():
    found = samples(worlds.master_down())
    assert found["server_active", labels("demo-master-2")] == 0
    assert found["node_ready", labels("demo-master-2")] == 0
    assert found["etcd_member_healthy", (("node", "demo-master-2"),)] == 0
    assert found["etcd_quorum", ()] == 1


def test_what_is_not_known_is_no_zero():
    found = samples(worlds.silence())
    assert of("server_active", found) == of("minion_connected", found) == of("node_ready", found) == {}
    assert ("steps", ()) not in found
    assert ("etcd_quorum", ()) not in found
    assert found["known", (("source", "cloud"),)] == 0
    assert found["ready", ()] == 0
    assert set(of("known", found)) == {(("source", source),) for source in SOURCES}


def test_failed_steps_are_counted():
    assert samples(worlds.creating())["step_failures", (("step", "join:demo-worker-1"),)] == 2


@pytest.mark.parametrize("make", worlds.WORLDS.values(), ids=worlds.WORLDS)
def test_every_world_can_be_read_by_prometheus_and_its_mark_is_in_it(make):
    assert samples(make())
    assert metrics.mark("demo") in metrics.text(status.status(make()))


def test_the_reference_is_current():
    assert metrics_reference.FILE.read_text() == metrics_reference.text(), (
        "run: python -m managed_k8s.insight.metrics_reference"
    )


def test_names_are_of_prometheus_and_there_is_each_once():
    names = [metric.name for metric in metrics.CATALOGUE]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("managed_k8s_[a-z][a-z0-9_]*[a-z]", name) for name in names)
    assert all(metric.about.endswith(".") for metric in metrics.CATALOGUE)


def test_alerts_are_on_metrics_and_labels_that_there_are():
    there = {metric.name: {"cluster", *metric.labels} for metric in metrics.CATALOGUE}
    for rule in ALERTS:
        named = set(re.findall(r"\bmanaged_k8s_\w+", rule["expr"]))
        assert named, rule["alert"]
        assert named <= there.keys(), rule["alert"]
        # What a rule speaks of is a label of the metric that it begins with.
        subject = re.search(r"managed_k8s_\w+", rule["expr"])
        text = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= there[subject[0]], rule["alert"]
        for metric, label in re.findall(r"(managed_k8s_\w+)\{(\w+)=", rule["expr"]):
            assert label in there[metric], rule["alert"]


def test_alerts_are_complete_and_lead_to_a_section_that_there_is():
    page = (ROOT / "docs" / "operations.md").read_text()
    sections = {title.lower().replace(" ", "-") for title in re.findall(r"^## (.+)$", page, re.MULTILINE)}
    names = [rule["alert"] for rule in ALERTS]
    assert len(set(names)) == len(names)
    for rule in ALERTS:
        assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("critical", "warning", "info"), rule["alert"]
        assert rule["annotations"].keys() == {"summary", "description", "section"}, rule["alert"]
        assert rule["annotations"]["section"] in sections, rule["alert"]
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "1m")), rule["alert"]
        for expression in (rule["expr"], *rule["annotations"].values()):
            assert all(expression.count(a) == expression.count(b) for a, b in ("()", "{}")), rule["alert"]


COMPARED = re.compile(r"(?:(time\(\)) - )?(managed_k8s_\w+)(?:\{[^}]*\})?(?: - (time\(\)))? (==|!=|<|>=|>) ([\d *]+)")


def fires(rule, found, now):
    """Tell whether the comparison that a rule begins with holds for any sample; all of them are that simple."""
    match = COMPARED.match(rule["expr"])
    assert match, rule["alert"]
    before, name, after, operator, bound = match.groups()
    limit = eval(bound)  # noqa: S307
    for number in of(name.removeprefix("managed_k8s_"), found).values():
        value = now - number if before else number - now if after else number
        if {"==": value == limit, "!=": value != limit, "<": value < limit, ">=": value >= limit, ">": value > limit}[
            operator
        ]:
            return True
    return False


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (worlds.well, set()),
        (
            worlds.master_down,
            {"EtcdMemberUnhealthy", "ServerNotActive", "MinionSilent", "NodeNotReady", "ClusterNotReady"},
        ),
        (worlds.api_away, {"KubernetesApiDown", "ApiAddressLost", "ClusterNotReady", "SourceUnknown"}),
        (worlds.cloud_away, {"ClusterNotReady", "SourceUnknown"}),
    ],
    ids=["well", "a master is down", "the API is away", "the cloud is away"],
)
def test_each_world_sets_off_its_alerts(make, wanted):
    found = samples(make())
    assert {rule["alert"] for rule in ALERTS if fires(rule, found, worlds.NOW)} == wanted


def test_old_metrics_set_off_an_alert():
    found = samples(worlds.well())
    assert {"MetricsOld", "ReconcilerBlind"} <= {
        rule["alert"] for rule in ALERTS if fires(rule, found, max(time.time(), worlds.NOW) + 3600)
    }
