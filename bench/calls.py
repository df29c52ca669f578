"""What a reconcile asks of cloud, API and mirror: requests and bytes, and that requests do not grow with nodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from bench import stand_in
from bench.http_counter import Counter, Traffic, place
from bench.report import Details, Figures, Row
from bench.setting import BenchError, Setting
from managed_k8s.cluster import Cluster
from managed_k8s.kube import access
from managed_k8s.observe.observer import Observer

NODES = (10, 100, 1000)


def measure(setting: Setting) -> Figures:
    """Count one look at the living cluster, another one of the same process, and looks at stand-ins.

    Raises BenchError when the API does not say how the cluster is: that would be fewer requests than usual.
    """
    services = _services(setting)
    # As in a new process: without the token and what else the other parts may have fetched already.
    observer = Cluster(setting.opts, setting.cluster.name).observer()
    return {
        "first": _count(observer, services),
        "next": _count(observer, services),
        "stand_ins": [{"nodes": count, "traffic": of_stand_in(count)} for count in NODES],
    }


def of_stand_in(count: int) -> dict[str, Any]:
    """Return what one look at a stand-in of so many nodes causes, by service."""
    with stand_in.observer(count) as (observer, services):
        return _count(observer, services)


def _count(observer: Observer, services: Mapping[str, str]) -> dict[str, Any]:
    with Counter(services).counting() as counter:
        look = observer.look()
    if look.observed.ready is None or not look.observed.addons:
        raise BenchError(
            "the API does not answer, or the add-ons are not as they should be: salt-run managed_k8s.status"
        )
    return {service: dataclasses.asdict(traffic) for service, traffic in sorted(counter.traffic.items())}


def _services(setting: Setting) -> dict[str, str]:
    """Return the service at each host and port, by a connection of its own: the one that is measured is new."""
    from managed_k8s.openstack import connection

    cluster = setting.cluster
    conn = connection.connect(cluster.settings.openstack.cloud, setting.root)
    at: dict[str, list[str]] = {}
    for entry in conn.service_catalog:
        for endpoint in entry["endpoints"]:
            at.setdefault(place(endpoint["url"]), []).append(entry["type"])
    named = {where: " and ".join(sorted(set(types))) for where, types in at.items()}
    public = (cluster.store.read("infra.json") or {}).get("public_address")
    apis = {f"{address}:{access.PORT}": "kubernetes" for address in access.addresses(cluster.settings, public)}
    return named | apis | {place(cluster.settings.artifacts.url): "mirror"}


def total(traffic: Mapping[str, Mapping[str, int]]) -> Traffic:
    """Return the traffic to all services."""
    return Traffic(*(sum(one[field.name] for one in traffic.values()) for field in dataclasses.fields(Traffic)))


def rows(figures: Figures) -> list[Row]:
    """Return the lines of the main table."""
    first, later = total(figures["first"]), total(figures["next"])
    counts = [total(run["traffic"]).requests for run in figures["stand_ins"]]
    sizes = ", ".join(f"{run['nodes']:,}" for run in figures["stand_ins"])
    return [
        Row("requests of a reconcile that finds all well", f"{first.requests}, {_bytes(first)}"),
        Row("requests of a further look of the same process", f"{later.requests}, {_bytes(later)}"),
        Row(
            f"requests of a look at stand-ins of {sizes} nodes",
            ", ".join(map(str, counts)),
            "the same for all",
            len(set(counts)) == 1,
        ),
    ]


def _bytes(traffic: Traffic) -> str:
    return f"{(traffic.sent + traffic.received) / 1000:.0f} kB"


def details(figures: Figures) -> list[Details]:
    """Return requests by service."""
    header = ("requests", "bytes sent", "bytes received", "requests of a further look")
    names = sorted({*figures["first"], *figures["next"]})
    nothing = dataclasses.asdict(Traffic())
    lines = []
    for name in names:
        first, later = (figures[key].get(name, nothing) for key in ("first", "next"))
        numbers = (first["requests"], first["sent"], first["received"], later["requests"])
        lines.append([name, *(f"{number:,}" for number in numbers)])
    return [Details("A reconcile's requests, by service", header, lines)]
