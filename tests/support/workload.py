"""A workload that stays up while nodes come and go: two pods with a budget, and writers that say what failed."""

from __future__ import annotations

from typing import Any

from kubernetes.client import AppsV1Api, CoreV1Api, PolicyV1Api
from kubernetes.client.exceptions import ApiException

from managed_k8s.kube.smoke import pods
from managed_k8s.kube.smoke.check import FailedError, eventually
from managed_k8s.kube.smoke.workspace import Workspace

# Seconds.
_LIMIT = 180
# Writes through the service for ever, and says what did not arrive in so many seconds. It ends when it is told to: as
# the first process of its container it would not by itself, and each reboot would wait for it for 90 seconds.
_PROBE = """
trap exit TERM
n=0
while :; do
  n=$((n + 1))
  timeout {patience} bash -c 'exec 3<> /dev/tcp/$0/$1 && echo "PUT /$2" >&3 && grep -q -m 1 hello <&3' \\
    "$WEB_SERVICE_HOST" "$WEB_SERVICE_PORT" "$n" || echo "failed $(date -u +%T) write $n"
  [ $((n % 50)) = 0 ] && echo "written $n"
  sleep 0.2
done
"""
_LABELS = {"app": "web"}


class Workload:
    """The workload, in a namespace that is there.

    patience: seconds after which a write that is not answered has failed.
    """

    def __init__(self, space: Workspace, patience: int) -> None:
        self.space, self.patience = space, patience
        self._core, self._apps = CoreV1Api(space.api), AppsV1Api(space.api)

    def start(self) -> None:
        """Make it, and return once it is written to. Raises FailedError, ApiException."""
        namespace = self.space.namespace
        deployment, probe = _workloads(self.space.image(), self.patience)
        self.space.create(pods.service())
        self._apps.create_namespaced_deployment(namespace, deployment)
        budget = {"metadata": {"name": "web"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": _LABELS}}}
        PolicyV1Api(self.space.api).create_namespaced_pod_disruption_budget(namespace, budget)
        eventually(self._serves, _LIMIT)
        # What writes before anybody answers fails.
        self._apps.create_namespaced_daemon_set(namespace, probe)
        eventually(self._writes, _LIMIT)

    def available(self) -> int:
        """Return how many pods could answer. Raises ApiException."""
        status = self._apps.read_namespaced_deployment("web", self.space.namespace).status
        return int(status.ready_replicas or 0)

    def written(self) -> dict[str, tuple[int, list[str]]]:
        """Return writer -> how many writes it made, and which failed. Raises ApiException."""
        found = {}
        for pod in self._core.list_namespaced_pod(self.space.namespace, label_selector="app=probe").items:
            # 204, and None, of a pod that no node has yet (kubernetes, registry/core/pod/strategy.go, LogLocation).
            log = self._core.read_namespaced_pod_log(pod.metadata.name, self.space.namespace) or ""
            lines = log.splitlines()
            made = [int(line.split()[1]) for line in lines if line.startswith("written")]
            found[pod.metadata.name] = (max(made, default=0), [line for line in lines if line.startswith("failed")])
        return found

    def _serves(self) -> str:
        if self.available() != 2:
            raise FailedError(f"two pods do not serve after {_LIMIT} s")
        return "two pods serve"

    def _writes(self) -> str:
        try:
            count = sum(count for count, _ in self.written().values())
        except ApiException as error:
            # A container that has not begun has no log.
            raise FailedError(f"nothing was written after {_LIMIT} s: {error.reason}") from None
        if not count:
            raise FailedError(f"nothing was written after {_LIMIT} s")
        return f"{count} writes"


def _workloads(image: str, patience: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a deployment that two nodes share and that ends gently, and a pod on every node that writes to it."""
    pod = pods.server(image)["spec"]
    (container,) = pod["containers"]
    # Who only knocks, as the readiness probe does, ends nothing.
    container["command"][-1] = f"$SIG{{PIPE}} = 'IGNORE'; {container['command'][-1]}"
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
    probe["containers"][0]["command"] = ["bash", "-c", _PROBE.replace("{patience}", str(patience))]
    probe["restartPolicy"] = "Always"
    deployment = _workload("web", _LABELS, pod)
    deployment["spec"]["replicas"] = 2
    # Pods of a DaemonSet stay on their node while it is drained.
    return deployment, _workload("probe", {"app": "probe"}, probe)


def _workload(name: str, labels: dict[str, str], pod: dict[str, Any]) -> dict[str, Any]:
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {"metadata": {"name": name}, "spec": {"selector": {"matchLabels": labels}, "template": template}}
