"""A workload that stays up while nodes come and go: two pods behind a service, and writers that say what failed."""

from __future__ import annotations

from typing import Any

from kubernetes.client import AppsV1Api, CoreV1Api, PolicyV1Api
from kubernetes.client.exceptions import ApiException

from managed_k8s.kube.smoke import pods
from managed_k8s.kube.smoke.check import FailedError, eventually
from managed_k8s.kube.smoke.workspace import Workspace

# Seconds.
_LIMIT = 180
# Writes through the service for ever, and says what did not arrive.
_PROBE = """
n=0
while :; do
  n=$((n + 1))
  timeout 2 bash -c 'exec 3<> /dev/tcp/$0/$1 && echo "PUT /$2" >&3 && grep -q -m 1 hello <&3' \\
    "$WEB_SERVICE_HOST" "$WEB_SERVICE_PORT" "$n" || echo "failed $(date -u +%T) write $n"
  [ $((n % 50)) = 0 ] && echo "written $n"
  sleep 0.2
done
"""
_LABELS = {"app": "web"}


def start(space: Workspace) -> None:
    """Make it in a namespace, and return once it writes. Raises FailedError, ApiException."""
    service, deployment, probe = _serving(space.image())
    space.create(service)
    apps = AppsV1Api(space.api)
    deployment["spec"]["replicas"] = 2
    apps.create_namespaced_deployment(space.namespace, deployment)
    budget = {"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": _LABELS}}}
    PolicyV1Api(space.api).create_namespaced_pod_disruption_budget(space.namespace, budget)

    def serves() -> str:
        if apps.read_namespaced_deployment("web", space.namespace).status.ready_replicas != 2:
            raise FailedError(f"two pods do not serve after {_LIMIT} s")
        return "two pods serve"

    def writes() -> str:
        try:
            count = sum(count for count, _ in said(space).values())
        except ApiException as error:
            # A container that has not begun has no log.
            raise FailedError(f"nothing was written after {_LIMIT} s: {error.reason}") from None
        if not count:
            raise FailedError(f"nothing was written after {_LIMIT} s")
        return f"{count} writes"

    eventually(serves, _LIMIT)
    # What writes before anybody answers fails.
    apps.create_namespaced_daemon_set(space.namespace, probe)
    eventually(writes, _LIMIT)


def said(space: Workspace) -> dict[str, tuple[int, list[str]]]:
    """Return writer -> how many writes it made, and which failed. Raises ApiException."""
    core, found = CoreV1Api(space.api), {}
    for pod in core.list_namespaced_pod(space.namespace, label_selector="app=probe").items:
        lines = core.read_namespaced_pod_log(pod.metadata.name, space.namespace).splitlines()
        made = [int(line.split()[1]) for line in lines if line.startswith("written")]
        found[pod.metadata.name] = (max(made, default=0), [line for line in lines if line.startswith("failed")])
    return found


def _serving(image: str) -> list[dict[str, Any]]:
    """Return a service, a deployment that two nodes share and that ends gently, and who writes to it."""
    pod = pods.server(image)["spec"]
    (container,) = pod["containers"]
    # Who still has its address gets an answer until everybody has noticed.
    container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", "10"]}}}
    container["readinessProbe"] = {"tcpSocket": {"port": pods.PORT}, "periodSeconds": 2}
    spread = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": _LABELS},
    }
    pod |= {"restartPolicy": "Always", "terminationGracePeriodSeconds": 20, "topologySpreadConstraints": [spread]}
    probe = pods.server(image)["spec"]
    probe["containers"][0]["command"] = ["bash", "-c", _PROBE]
    probe["restartPolicy"] = "Always"
    return [
        pods.service(),
        _workload("Deployment", "web", _LABELS, pod),
        # Pods of a DaemonSet stay on their node while it is drained.
        _workload("DaemonSet", "probe", {"app": "probe"}, probe),
    ]


def _workload(kind: str, name: str, labels: dict[str, str], pod: dict[str, Any]) -> dict[str, Any]:
    template = {"metadata": {"labels": labels}, "spec": pod}
    specification = {"selector": {"matchLabels": labels}, "template": template}
    return {"kind": kind, "metadata": {"name": name}, "spec": specification}
