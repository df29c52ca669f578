"""Persistent volumes as Kubernetes knows them, by two requests however many there are."""

from __future__ import annotations

from kubernetes.client import ApiClient, CoreV1Api, StorageV1Api

from managed_k8s.status.facts import Volume

# Seconds; a status is no reason to wait longer.
_LIMIT = 10


def listing(api: ApiClient) -> tuple[Volume, ...]:
    """Return the volumes, sorted by whose they are. Raises ApiException."""
    attached = {
        item.spec.source.persistent_volume_name: item.spec.node_name
        for item in StorageV1Api(api).list_volume_attachment(_request_timeout=_LIMIT).items
        if item.status and item.status.attached
    }
    found = [
        Volume(
            name=item.metadata.name,
            claim=f"{item.spec.claim_ref.namespace}/{item.spec.claim_ref.name}" if item.spec.claim_ref else "",
            size=str((item.spec.capacity or {}).get("storage", "")),
            node=str(attached.get(item.metadata.name, "")),
        )
        for item in CoreV1Api(api).list_persistent_volume(_request_timeout=_LIMIT).items
    ]
    return tuple(sorted(found, key=lambda volume: (volume.claim, volume.name)))
