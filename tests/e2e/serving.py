"""A workload that is to stay up whatever is done to the nodes: two pods with a budget, and who writes to them."""

from __future__ import annotations

from typing import Any

from kubernetes.client import AppsV1Api, CoreV1Api, PolicyV1Api

from managed_k8s.kube.smoke import pods
from managed_k8s.kube.smoke.workspace import Workspace
from tests.e2e.project import eventually

# Writes through the service for ever, and says what did not arrive. Slow is no error, refused or cut off is one.
_PROBE = """
n=0
while :; do
  n=$((n + 1))
  timeout 5 bash -c 'exec 3<> /dev/tcp/$0/$1 && echo "PUT /$2" >&3 && grep -q -m 1 hello <&3' \\
    "$WEB_SERVICE_HOST" "$WEB_SERVICE_PORT" "$n" || echo "failed $(date -u +%T) write $n"
  [ $((n % 50)) = 0 ] && echo "written $n"
  sleep 0.2
done
"""
_LABELS = {"app": "web"}


class Serving:
    """The workload in a namespace of its own."""

    def __init__(self, space: Workspace) -> None:
        self.space, self.core, self.apps = space, CoreV1Api(space.api), AppsV1Api(space.api)

    def start(self) -> None:
        """Make it, and wait until it is written to."""
        namespace = self.space.namespace
        deployment, probe = _workloads(self.space.image())
        self.space.create(pods.service())
        self.apps.create_namespaced_deployment(namespace, deployment)
        budget = {"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": _LABELS}}}
        PolicyV1Api(self.space.api).create_namespaced_pod_disruption_budget(namespace, budget)
        eventually(lambda: self.available() == 2, 180)
        # What writes before anybody answers fails.
        self.apps.create_namespaced_daemon_set(namespace, probe)
        eventually(lambda: sum(count for count, _ in self.written().values()) > 0, 180)

    def available(self) -> int:
        """Return how many pods could answer."""
        status = self.apps.read_namespaced_deployment("web", self.space.namespace).status
        return int(status.ready_replicas or 0)

    def written(self) -> dict[str, tuple[int, list[str]]]:
        """Return pod -> how many writes it made, and which failed."""
        found = {}
        for pod in self.core.list_namespaced_pod(self.space.namespace, label_selector="app=probe").items:
            lines = self.core.read_namespaced_pod_log(pod.metadata.name, self.space.namespace).splitlines()
            made = [int(line.split()[1]) for line in lines if line.startswith("written")]
            found[pod.metadata.name] = (max(made, default=0), [line for line in lines if line.startswith("failed")])
        return found


def _workloads(image: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a deployment that two nodes share and that ends gently, and a pod on every node that writes to it."""
    pod = pods.server(image)["spec"]
    (container,) = pod["containers"]
    # Who only knocks, as the readiness probe does, ends nothing.
    container["command"][-1] = f"$SIG{{PIPE}} = 'IGNORE'; {container['command'][-1]}"
    # Who still has its address gets an answer until everybody has noticed.
    container["lifecycle"] = {"preStop": {"exec": {"command": ["sleep", "10"]}}}
    container["readinessProbe"] = {"tcpSocket": {"port": pods.PORT}, "periodSeconds": 2}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
              "labelSelector": {"matchLabels": _LABELS}}  # fmt: skip
    pod |= {"restartPolicy": "Always", "terminationGracePeriodSeconds": 20, "topologySpreadConstraints": [spread]}
    probe = pods.server(image)["spec"]
    probe["containers"][0]["command"] = ["bash", "-c", _PROBE]
    probe["restartPolicy"] = "Always"
    deployment = _workload("web", _LABELS, pod)
    deployment["spec"]["replicas"] = 2
    # Pods of a DaemonSet stay on their node while it is drained.
    return deployment, _workload("probe", {"app": "probe"}, probe)


def _workload(name: str, labels: dict[str, str], pod: dict[str, Any]) -> dict[str, Any]:
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
