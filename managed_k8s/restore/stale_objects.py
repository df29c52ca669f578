"""What a restored database says of servers that are gone: taken out, so that nobody waits for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from kubernetes.client import ApiClient, StorageV1Api
from kubernetes.client.exceptions import ApiException

from managed_k8s import names
from managed_k8s.kube import drain
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.observe import membership


def stale(nodes: Mapping[str, Mapping[str, Any]], servers: Mapping[str, str]) -> list[str]:
    """Return the nodes whose server is gone, or is another one by now.

    nodes: as observe_kubernetes.nodes() returns them. servers: name -> Nova's id.
    """
    return sorted(
        name
        for name, node in nodes.items()
        if names.parse(name) and membership.is_without_server(node, servers.get(name))
    )


def clean(
    api: ApiClient,
    servers: Mapping[str, str],
    base: str,
    leaving: Collection[str],
    members: Collection[str],
    say: Callable[[str], None],
) -> list[str]:
    """Delete the Nodes of servers that are gone, and what is attached to them.

    servers: name -> Nova's id, of those that stay. base: the master that runs already; its Node is there or comes.
    leaving: nodes that are deleted though their server is there, as they join anew. members: workers whose kubelets
    run. Return those of them that are no nodes, or were another server's: they have to join anew too. Raises
    ApiException.
    """
    nodes = kube_nodes.nodes(api)
    if base not in nodes:
        raise ApiException(status=404, reason=f"{base} is no node yet")
    gone = stale(nodes, servers)
    for name in sorted({*gone, *leaving} & nodes.keys()):
        drain.delete_node(api, name)
        say(f"Node {name} is deleted")
    _detach(api, {*gone, *(name for name in _attached(api) if name not in servers)}, say)
    return sorted(name for name in members if name in gone or name not in nodes)


def _attached(api: ApiClient) -> set[str]:
    return {item.spec.node_name for item in StorageV1Api(api).list_volume_attachment().items}


def _detach(api: ApiClient, gone: Collection[str], say: Callable[[str], None]) -> None:
    """Delete attachments to servers that are gone: the cloud has let go of their volumes."""
    storage = StorageV1Api(api)
    for item in storage.list_volume_attachment().items:
        if item.spec.node_name not in gone:
            continue
        name = item.metadata.name
        try:
            storage.delete_volume_attachment(name)
            # Whoever should confirm it would ask for a server that is not there.
            storage.patch_volume_attachment(
                name, {"metadata": {"finalizers": None}}, _content_type="application/merge-patch+json"
            )
        except ApiException as error:
            if error.status != 404:
                raise
        say(f"volume {item.spec.source.persistent_volume_name} is no more attached to {item.spec.node_name}")
