"""A cluster's status as metrics for Prometheus: a view of what status/status.py says.

What is not known has no sample, and managed_k8s_known says so: a missing value is not a zero.
docs/metrics.md is made from the catalogue: `make docs`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from managed_k8s import names
from managed_k8s.status.facts import PLAN, SOURCES

Data = Mapping[str, Any]
# Values of the labels beside `cluster`, and the sample.
Sample = tuple[tuple[str, ...], float]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A gauge.

    labels: beside `cluster`. samples: takes the status and gives labels' values and numbers.
    """

    name: str
    about: str
    labels: tuple[str, ...]
    samples: Callable[[Data], Iterable[Sample]]


def text(data: Data) -> str:
    """Return the metrics of a cluster in Prometheus's text format.

    data: as status() returns it.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(data))
    return generate_latest(registry).decode()


def mark(cluster: str) -> str:
    """Return what is in the metrics of this cluster, and of no other."""
    return f'managed_k8s_ready{{cluster="{cluster}"}}'


class _Collector(Collector):
    def __init__(self, data: Data) -> None:
        self._data = data

    def collect(self) -> Iterable[GaugeMetricFamily]:
        for metric in CATALOGUE:
            family = GaugeMetricFamily(metric.name, metric.about, labels=("cluster", *metric.labels))
            for values, number in metric.samples(self._data):
                family.add_metric([self._data["cluster"], *values], float(number))
            yield family


def _one(number: Callable[[Data], float | None]) -> Callable[[Data], Iterable[Sample]]:
    """Return the samples of a metric that a cluster has one of, if it is known."""

    def samples(data: Data) -> Iterable[Sample]:
        found = number(data)
        return [] if found is None else [((), found)]

    return samples


def _each(
    number: Callable[[Data], float | None], nodes: bool = False, gateways: bool = False
) -> Callable[[Data], Iterable[Sample]]:
    """Return the samples of a metric that servers have; nodes: only Kubernetes's; gateways: only these."""

    def samples(data: Data) -> Iterable[Sample]:
        for node in data["nodes"]:
            is_gateway, found = node["role"] == names.GATEWAY, number(node)
            if found is not None and not (nodes and is_gateway) and not (gateways and not is_gateway):
                yield (node["name"], node["role"]), found

    return samples


def _is(key: str, *wanted: str) -> Callable[[Data], float | None]:
    return lambda node: None if node[key] is None else node[key] in wanted


def _versions(data: Data) -> Iterable[Sample]:
    return [((n["name"], n["role"], n["version"]), 1) for n in data["nodes"] if n["version"]]


def _wanted(data: Data) -> Iterable[Sample]:
    counts = dict.fromkeys(names.ROLES, 0)
    for node in data["nodes"]:
        if node["role"] in counts and "not in cluster.map" not in node["notes"]:
            counts[node["role"]] += 1
    return [((role,), count) for role, count in counts.items()]


def _members(data: Data) -> Iterable[Sample]:
    members = data["etcd"]["members"] if data["etcd"] else []
    return [((member["node"] or member["id"],), member["healthy"]) for member in members]


def _quorum(data: Data) -> float | None:
    return data["etcd"]["quorum"] if data["etcd"] else None


def _holders(data: Data) -> float | None:
    holders = data["address"]["holders"]
    return None if holders is None else len(holders)


def _certificates(data: Data) -> Iterable[Sample]:
    return [((each["key"],), each["ends"]) for each in data["certificates"] if each["ends"] is not None]


def _volumes(data: Data) -> Iterable[Sample]:
    volumes = data["volumes"]
    if volumes is None:
        return []
    attached = sum(bool(volume["node"]) for volume in volumes)
    return [(("attached",), attached), (("detached",), len(volumes) - attached)]


def _planned(key: str) -> Callable[[Data], float | None]:
    return lambda data: None if PLAN in data["unknown"] else len(data[key])


def _failures(data: Data) -> Iterable[Sample]:
    return [((step,), count) for step, count in data["failures"].items()]


def _known(data: Data) -> Iterable[Sample]:
    return [((source,), source not in data["unknown"]) for source in SOURCES]


_SERVER = ("node", "role")
CATALOGUE = (
    Metric("managed_k8s_ready", "Whether the cluster is known to be as it should be.", (),
           _one(lambda data: data["ready"])),
    Metric("managed_k8s_problems", "How many things are wrong.", (), _one(lambda data: len(data["wrong"]))),
    Metric("managed_k8s_waiting", "How many things are waited for that no step of ours removes.", (),
           _one(_planned("waiting"))),
    Metric("managed_k8s_steps", "How many steps are to be done.", (), _one(_planned("next"))),
    Metric("managed_k8s_step_failures", "How often a step failed in a row; none when nothing fails.", ("step",),
           _failures),
    Metric("managed_k8s_paused", "Whether an operator paused the reconciler.", (),
           _one(lambda data: bool(data["paused"]))),
    Metric("managed_k8s_look_timestamp_seconds", "When these facts were gathered.", (),
           _one(lambda data: data["time"])),
    Metric("managed_k8s_look_seconds", "How long that took.", (), _one(lambda data: data["seconds"])),
    Metric("managed_k8s_reconciler_look_timestamp_seconds", "When the reconciler last saw the whole cluster.", (),
           _one(lambda data: data["last_look"])),
    Metric("managed_k8s_known", "Whether a source of facts answered; of one that did not, metrics are missing.",
           ("source",), _known),
    Metric("managed_k8s_servers_wanted", "How many servers cluster.map names.", ("role",), _wanted),
    Metric("managed_k8s_server_active", "Whether OpenStack has the server and says that it is ACTIVE.", _SERVER,
           _each(_is("server", "ACTIVE"))),
    Metric("managed_k8s_minion_connected", "Whether the server's Salt minion answers.", _SERVER,
           _each(_is("minion", "connected"))),
    Metric("managed_k8s_server_converged", "Whether the server is made from what settings and states say now.",
           _SERVER, _each(lambda node: node["converged"])),
    Metric("managed_k8s_node_ready", "Whether the Kubernetes node is Ready.", _SERVER,
           _each(lambda node: node["ready"], nodes=True)),
    Metric("managed_k8s_node_cordoned", "Whether the Kubernetes node takes no new pods.", _SERVER,
           _each(lambda node: node["cordoned"] if node["version"] else None, nodes=True)),
    Metric("managed_k8s_node_info", "Always 1; the kubelet's version is a label.", (*_SERVER, "version"), _versions),
    Metric("managed_k8s_api_up", "Whether the Kubernetes API answers at the cluster's address.", (),
           _one(lambda data: data["api"])),
    Metric("managed_k8s_gateway_has_address", "Whether the gateway has the API's virtual IP.", _SERVER,
           _each(lambda node: node["virtual_ip"], gateways=True)),
    Metric("managed_k8s_address_holders", "How many gateways have the API's virtual IP: it must be one.", (),
           _one(_holders)),
    Metric("managed_k8s_etcd_member_healthy", "Whether the member of etcd is healthy.", ("node",), _members),
    Metric("managed_k8s_etcd_quorum", "Whether enough members of etcd are healthy for it to be written.", (),
           _one(_quorum)),
    Metric("managed_k8s_certificate_end_timestamp_seconds", "When the certificate ends.", ("certificate",),
           _certificates),
    Metric("managed_k8s_backup_newest_timestamp_seconds", "When the newest backup was begun.", (),
           _one(lambda data: data["backup"]["time"])),
    Metric("managed_k8s_backup_problems", "How many things are wrong with the backups.", (),
           _one(lambda data: len(data["backup"]["problems"]))),
    Metric("managed_k8s_volumes", "How many persistent volumes there are.", ("state",), _volumes),
)  # fmt: skip
