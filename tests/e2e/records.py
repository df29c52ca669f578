"""A workload that counts: numbered records in ConfigMaps and on a volume, each with its checksum."""

from __future__ import annotations

import hashlib

from kubernetes.client import ApiClient, AppsV1Api, CoreV1Api
from kubernetes.client.exceptions import ApiException
from kubernetes.stream import stream

from managed_k8s.kube.smoke import pods
from managed_k8s.kube.smoke.workspace import Workspace

NAMESPACE = "records"
_LABEL = "app=records"
# What was cut off in the middle of a line is no record.
_WRITE = """
cd /data; touch records; sed -i -E '/^[0-9]+ [0-9a-f]{64}$/!d' records; n=$(wc -l < records)
while true; do
  n=$((n+1)); echo "$n $(echo "record $n" | sha256sum | cut -c1-64)" >> records; sync records; sleep 0.2
done
"""


def checksum(number: int) -> str:
    """Return what belongs to a record."""
    return hashlib.sha256(f"record {number}\n".encode()).hexdigest()


class Records:
    """The workload: ConfigMaps, and a StatefulSet of one pod that writes to its volume."""

    def __init__(self, api: ApiClient) -> None:
        self.api, self.core, self.apps = api, CoreV1Api(api), AppsV1Api(api)

    def start(self, image: str) -> None:
        """Make it, and wait until it writes; one that is there is kept."""
        if NAMESPACE not in [one.metadata.name for one in self.core.list_namespace().items]:
            self.core.create_namespace({"metadata": {"name": NAMESPACE}})
            pod = pods.writer(image, "")["spec"]
            pod["restartPolicy"] = "Always"
            pod["containers"][0]["command"] = ["bash", "-c", _WRITE]
            pod.pop("volumes")
            labels = {"app": "records"}
            claim = pods.claim("data")
            self.apps.create_namespaced_stateful_set(
                NAMESPACE,
                {
                    "metadata": {"name": "records"},
                    "spec": {
                        "serviceName": "records",
                        "selector": {"matchLabels": labels},
                        "template": {"metadata": {"labels": labels}, "spec": pod},
                        "volumeClaimTemplates": [{"metadata": claim["metadata"], "spec": claim["spec"]}],
                    },
                },
            )

    def make(self, first: int, count: int) -> None:
        """Make ConfigMaps with so many records, from a number on."""
        for number in range(first, first + count):
            body = {"metadata": {"name": f"record-{number:05}", "labels": {"app": "records"}}}
            self.core.create_namespaced_config_map(NAMESPACE, {**body, "data": {"checksum": checksum(number)}})

    def delete(self) -> None:
        """Delete all ConfigMaps, as somebody does by mistake."""
        self.core.delete_collection_namespaced_config_map(NAMESPACE, label_selector=_LABEL)

    def numbers(self) -> list[int]:
        """Return the numbers of the ConfigMaps whose checksum is right; fail when one is not."""
        found = {}
        for item in self.core.list_namespaced_config_map(NAMESPACE, label_selector=_LABEL).items:
            found[int(item.metadata.name.rpartition("-")[2])] = item.data["checksum"]
        assert found == {number: checksum(number) for number in found}
        return sorted(found)

    def written(self) -> int:
        """Return how many records are on the volume; fail unless they are 1, 2, 3... with their checksums."""
        text = stream(
            self.core.connect_get_namespaced_pod_exec, "records-0", NAMESPACE, command=["cat", "/data/records"],
            stderr=False, stdin=False, stdout=True, tty=False,
        )  # fmt: skip
        lines = text.strip().splitlines()
        if not text.endswith("\n") or len(lines[-1].split()) < 2:
            lines = lines[:-1]
        assert lines == [f"{n} {checksum(n)}" for n in range(1, len(lines) + 1)]
        return len(lines)

    def grows(self, beyond: int) -> bool:
        """Tell whether the volume is written on, beyond a number of records."""
        try:
            return self.written() > beyond
        except (ApiException, OSError):
            return False

    def restarts(self, nodes: list[str]) -> dict[str, tuple[str, int]]:
        """Return of all containers on nodes when they began, and how often they were restarted."""
        return {
            f"{pod.metadata.namespace}/{pod.metadata.name}/{status.name}": (
                str(status.state.running and status.state.running.started_at), status.restart_count,
            )
            for pod in self.core.list_pod_for_all_namespaces().items
            if pod.spec.node_name in nodes
            for status in pod.status.container_statuses or []
        }  # fmt: skip


def image(api: ApiClient) -> str:
    """Return an image that every node has, with a shell."""
    return Workspace(api, "").image()
