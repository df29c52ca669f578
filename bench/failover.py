"""How long the API is gone when the gateway that holds the virtual IP loses its power, and when it comes back."""

from __future__ import annotations

import dataclasses
import ssl
import time

from bench.report import Details, Figures, Row
from bench.setting import BenchError, Setting
from managed_k8s import names
from managed_k8s.kube import access
from managed_k8s.operations import reconcile as reconciling
from tests.support.probes import INTERVAL, Probing, Summary, context

CUTS = 3
MOST_SECONDS = 0.5
# Seconds of probes: before the cut, and after it, when everything that can go wrong has.
_BEFORE, _AFTER = 2, 8
# Seconds for gateways to be as before; health checks have to pass some times in a row.
_HEALTHY_LIMIT, _SETTLED = 60, 5


def measure(setting: Setting) -> Figures:
    """Cut the power of the gateway that holds the address, and give it back, some times. Raises BenchError."""
    if not reconciling.look(setting.opts, setting.cluster.name).ready:
        raise BenchError(
            "the cluster is not as it should be, so it has no gateway to lose: salt-run managed_k8s.status"
        )
    return {"cuts": [_cut(setting) for _ in range(CUTS)]}


def _cut(setting: Setting) -> dict[str, object]:
    gateway = _holder(setting)
    with probing(setting) as during_cut:
        time.sleep(_BEFORE)
        try:
            setting.run("python", "-m", "lab", "fault", "power-loss", gateway)
            time.sleep(_AFTER)
        except BaseException:
            _power_on(setting, gateway)
            raise
    with probing(setting) as during_return:
        _power_on(setting, gateway)
        setting.run("salt-run", "managed_k8s.wait", setting.cluster.name, "timeout=600")
    return {
        "gateway": gateway,
        "cut": dataclasses.asdict(_rounded(during_cut.summary)),
        "return": dataclasses.asdict(_rounded(during_return.summary)),
    }


def _power_on(setting: Setting, gateway: str) -> None:
    setting.run("python", "-m", "lab", "fault", "undo", "power-loss", gateway)


def _holder(setting: Setting) -> str:
    """Return the gateway that holds the virtual IP, once all gateways could. Raises BenchError."""
    gateways = [node.id for node in setting.cluster.nodes if node.role == names.GATEWAY]
    if len(gateways) < 2:
        raise BenchError(f"{setting.cluster.name} has one gateway: nothing takes over from it")
    address = setting.cluster.settings.openstack.virtual_ip
    script = f"systemctl is-active haproxy keepalived; ip -4 -oneline address show to {address}/32"
    end = time.monotonic() + _HEALTHY_LIMIT
    while True:
        answers = setting.salt(gateways, "cmd.run", script)
        holders = [name for name, answer in answers.items() if address in answer]
        if len(holders) == 1 and all(answer.split()[:2] == ["active"] * 2 for answer in answers.values()):
            time.sleep(_SETTLED)
            return holders[0]
        if time.monotonic() > end:
            raise BenchError(f"the gateways are not as they should be: {answers}")
        time.sleep(1)


def probing(setting: Setting, interval: float = INTERVAL) -> Probing:
    """Return what asks the cluster's API at its floating IP, every so many seconds. Raises BenchError without one."""
    address, trusting = api(setting)
    return Probing(address, access.PORT, trusting, interval)


def api(setting: Setting) -> tuple[str, ssl.SSLContext]:
    """Return the API's floating IP, and what trusts its CA and has a client's certificate. Raises BenchError."""
    public = (setting.cluster.store.read("infra.json") or {}).get("public_address")
    if not public:
        raise BenchError("the API has no floating IP")
    return str(public), context(setting.cluster.kube.connect())


def _rounded(summary: Summary) -> Summary:
    exact = {name: round(getattr(summary, name), 3) for name in ("gap", "slowest", "late")}
    return dataclasses.replace(summary, **exact)


def rows(figures: Figures) -> list[Row]:
    """Return the lines of the main table."""
    cuts = figures["cuts"]
    longest = max(cut["cut"]["gap"] for cut in cuts)
    back = max(cut["return"]["gap"] for cut in cuts)
    times = f"of {len(cuts)} times"
    return [
        Row(
            f"API gap, power cut of the gateway with the virtual IP, longest {times}",
            f"{longest:.2f} s",
            f"{MOST_SECONDS} s",
            longest <= MOST_SECONDS,
        ),
        Row(f"API gap while that gateway comes back, longest {times}", f"{back:.2f} s"),
    ]


def details(figures: Figures) -> list[Details]:
    """Return a table of each cut."""
    header = ("gap", "probes", "failed", "slowest answer", "latest probe")
    lines = [
        [
            f"{cut['gateway']} {what}",
            f"{cut[key]['gap']:.3f} s",
            str(cut[key]["probes"]),
            str(cut[key]["failed"]),
            f"{cut[key]['slowest']:.2f} s",
            f"{cut[key]['late']:.3f} s",
        ]
        for cut in figures["cuts"]
        for key, what in (("cut", "loses power"), ("return", "comes back"))
    ]
    return [Details(f"Failover, a probe every {INTERVAL * 1000:.0f} ms", header, lines)]
