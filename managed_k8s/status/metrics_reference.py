"""Writes docs/metrics.md from the catalogue; `make docs` runs it."""

from __future__ import annotations

from pathlib import Path

from managed_k8s.status.metrics import CATALOGUE, Metric

FILE = Path(__file__).resolve().parent.parent.parent / "docs" / "metrics.md"
_HEAD = """# Metrics
What [`managed_k8s.status`](operations.md#status) says, for Prometheus. `salt-run managed_k8s.metrics` prints it. To
have it collected, run node_exporter on the Salt master with `--collector.textfile.directory`, and name a file there in
`pillar/clusters/<cluster>.sls`, another one for each cluster:

    managed_k8s:
      metrics:
        file: /var/lib/node_exporter/demo.prom

The sweep has it written every minute, whole or not at all, readable for everybody: there is no secret in it. A cluster
that is destroyed takes its file along. The look costs what `status` costs: its requests do not grow with servers.

`prometheus/alerts.yaml` has alert rules on these metrics; each names a section of [operations](operations.md).

All are gauges; truth is 1. Every metric has the label `cluster`. What is not known has no sample, and
`managed_k8s_known` is 0 for who did not say: `cloud`, `minions`, `kubernetes`, `etcd`, `volumes`, or `plan` when the
reconciler cannot say what is to be done.

This page is made by `make docs`.

| metric | labels | |
|---|---|---|
"""


def text() -> str:
    """Return the page."""
    return _HEAD + "".join(map(_row, CATALOGUE))


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {labels} | {metric.about.rstrip('.')} |\n"


if __name__ == "__main__":
    FILE.write_text(text())
