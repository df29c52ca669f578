"""One cluster's Kubernetes API, as observer, executor and operations ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import urllib3.exceptions
from kubernetes.client.exceptions import ApiException

from managed_k8s import names
from managed_k8s.artifacts import mirror
from managed_k8s.config.settings import Settings
from managed_k8s.kube import (
    access,
    addons,
    bootstrap_token,
    client,
    csr,
    drain,
    kubeconfig,
    node_annotations,
    resources,
    smoke,
)
from managed_k8s.kube import nodes as kube_nodes
from managed_k8s.kube import versions as kube_versions
from managed_k8s.model.kubernetes import KubernetesState
from managed_k8s.state import versions
from managed_k8s.state.store import Store


class KubernetesApi:
    """The cluster's API, from the Salt master.

    credential: makes or finds the cluster's application credential. kept_credential: the one that is kept, if it fits.
    """

    def __init__(
        self,
        cluster: str,
        settings: Settings,
        store: Store,
        credential: Callable[[], Mapping[str, Any]],
        kept_credential: Callable[[], Mapping[str, Any] | None],
    ) -> None:
        self.cluster, self.settings, self.store = cluster, settings, store
        self._credential, self._kept_credential = credential, kept_credential
        self._addons: dict[str, Any] = {}

    def connect(self) -> Any:
        """Return a client; made anew each time, as kubeconfigs are replaced."""
        return client.connect(access.kubeconfig(self.store))

    # Looking

    def answers(self) -> bool:
        """Tell whether there is an API server at one of the cluster's addresses."""
        public = (self.store.read("infra.json") or {}).get("public_address")
        return any(access.answers(address) for address in access.addresses(self.settings, public))

    def look(self) -> KubernetesState | None:
        """Return what the API says; None without a kubeconfig or an answer."""
        if not access.is_good(self.store):
            return None
        try:
            return self._look(self.connect())
        except (ApiException, urllib3.exceptions.HTTPError, OSError):
            return None

    def _look(self, api: Any) -> KubernetesState:

        nodes, leases = kube_nodes.nodes(api), kube_nodes.leases(api)
        nodes = {name: {**node, "lease": leases.get(name)} for name, node in nodes.items()}
        servers = self.store.read("inventory.json") or {}
        csr.approve_serving(api, {name: s["address"] for name, s in servers.items() if s["address"]})
        pods = kube_nodes.control_plane(api)
        running = kube_versions.versions(api, nodes, pods)
        # First of all: it says which add-ons there should be.
        versions.remember(self.store, running)
        return KubernetesState(
            ready={name: bool(node["ready"]) for name, node in nodes.items()},
            etcd=self._etcd_is_healthy(api, nodes, pods),
            addons=self._has_addons(api),
            nodes=nodes,
            versions=running,
        )

    def _etcd_is_healthy(self, api: Any, nodes: Mapping[str, Mapping[str, Any]], pods: Iterable[Any]) -> bool:
        """Tell whether every master has a healthy member; a lost node's is found ill in time."""
        # The pod of a node that was removed is still listed for a minute.
        members = {name: ok for name, ok in kube_nodes.etcd_members(pods).items() if name in nodes}
        masters = {name for name, node in nodes.items() if node["role"] == names.MASTER}
        complete = members.keys() >= masters and bool(members)
        return complete and all(members.values()) and kube_nodes.healthy(api, "/readyz/etcd")

    def _has_addons(self, api: Any) -> bool:

        kept = self._kept_credential()
        if kept is None:
            return False
        return not addons.missing(api, self._objects(kept))

    def _objects(self, credential: Mapping[str, Any]) -> Any:
        """Return the add-ons' objects of the version that the control plane has; the mirror is asked once for each."""
        settings = versions.of_addons(self.settings, self.store)
        version = settings.kubernetes.version
        if version not in self._addons:
            found = mirror.artifacts(self.store, settings)
            cloud = addons.CloudAccess.of(self.cluster, credential)
            self._addons[version] = addons.objects(settings, found["versions"], addons.fetch(found), cloud)
        return self._addons[version]

    # Acting

    def create_token(self, seconds: int) -> str:
        """Return a new bootstrap token."""
        return bootstrap_token.create(self.connect(), seconds)

    def delete_token(self, token: str) -> None:
        """Remove a bootstrap token."""
        bootstrap_token.delete(self.connect(), token)

    def withdraw_certificates(self) -> None:
        """Remove what a master was given to join with."""
        bootstrap_token.withdraw_certificates(self.connect())

    def mint(self, sign: Callable[[str], str], server: str, ca: str) -> str:
        """Return a kubeconfig whose key was made here."""
        return kubeconfig.mint(sign, server, ca, self.cluster)

    def drain(self, node: str, limit: float, say: Callable[[str], None]) -> None:
        """Cordon a node, have its pods leave, by force after a time, and note that they did."""
        api = self.connect()
        drain.cordon(api, node, node_annotations.REMOVAL)
        drain.evict(api, node, limit, say, force=True)
        drain.mark_drained(api, node)

    def free(self, node: str, say: Callable[[str], None]) -> None:
        """Let go of what a node holds that certainly does not run, and note that."""
        api = self.connect()
        drain.free(api, node, say)
        drain.mark_drained(api, node)

    def uncordon(self, node: str) -> None:
        """Undo a removal's cordon."""
        drain.uncordon(self.connect(), node, node_annotations.REMOVAL)

    def empty(self, node: str, limit: float, say: Callable[[str], None]) -> None:
        """Cordon a node for its maintenance, and have its pods leave, by force after a time."""
        kube_versions.empty(self.connect(), node, limit, say)

    def fill(self, node: str) -> None:
        """Undo that cordon."""
        kube_versions.fill(self.connect(), node)

    def await_node(self, node: str, wanted: Mapping[str, str], limit: float) -> None:
        """Wait until a node is Ready and as it should be."""
        kube_versions.await_node(self.connect, node, wanted, limit)

    def delete_node(self, node: str) -> None:
        """Delete a Node; one that is not there is fine."""
        drain.delete_node(self.connect(), node)

    def apply_addons(self, say: Callable[[str], None]) -> None:
        """Apply the add-ons with a credential of the cluster's own."""
        self._addons.clear()
        found = self._credential()
        addons.apply(self.connect(), self._objects(found), say)

    def resources(self) -> dict[str, str]:
        """Return the files for ~/.managed_k8s: name -> text, nothing secret."""
        return resources.files(self.settings, self._objects(self._credential()))

    def smoke(self, say: Callable[[str], None]) -> list[str]:
        """Run the smoke test; return what failed."""
        checks = self.smoke_checks(lambda check: say(f"{check.name}: {'ok' if check.ok else check.detail}"))
        return [f"{check.name}: {check.detail}" for check in checks if not check.ok]

    def smoke_checks(self, report: Callable[[Any], None]) -> list[Any]:
        """Run the smoke test; `report` gets each check as it ends. Return all of them."""
        return list(smoke.run(self.connect(), self.settings, report))

    # For operators

    def nodes(self) -> dict[str, dict[str, Any]]:
        """Return the cluster's nodes, as nodes.nodes() does."""
        return kube_nodes.nodes(self.connect())

    def drain_for_operator(self, node: str, say: Callable[[str], None]) -> bool:
        """Cordon a node and have its pods leave; return whether it was not cordoned before.

        Raises DrainError when some did not leave in time: they may not, or cannot.
        """
        api = self.connect()
        cordoned = drain.cordon(api, node, node_annotations.OPERATOR)
        try:
            drain.evict(api, node, self.settings.maintenance.drain_seconds, say, force=False)
        except drain.DrainError as error:
            undo = f"salt-run managed_k8s.uncordon {node}"
            raise drain.DrainError(f"{error}\n{node} stays cordoned; undo it: {undo}") from None
        return cordoned

    def uncordon_for_operator(self, node: str) -> bool:
        """Undo drain_for_operator(); return whether anything changed."""
        return drain.uncordon(self.connect(), node, node_annotations.OPERATOR)
