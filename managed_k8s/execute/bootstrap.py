"""Running the steps from servers to a cluster."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from managed_k8s import names
from managed_k8s.config.settings import Settings
from managed_k8s.execute.common import Action, StepError, await_idle, connected_master
from managed_k8s.kube import access
from managed_k8s.minions.jobs import Jobs
from managed_k8s.model.cluster import Snapshot
from managed_k8s.model.steps import ACCESS, ADDONS, CONVERGE, INFRASTRUCTURE, INIT, JOIN, KINDS, RESOURCES, SMOKE
from managed_k8s.state import immutable_settings, versions
from managed_k8s.state.store import Store

_TOKEN_SECONDS = 1800
_NO_HELPER = "no master that has joined is connected; a new one needs its certificates"
_KUBEADM = "managed_k8s_kubeadm.*"


class Cloud(Protocol):
    """What is asked of OpenStack."""

    def begin(self) -> None:
        """Note that a control plane is begun."""

    def correct(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Make network and security groups what the settings say, and keep what they are."""


class Kube(Protocol):
    """What is done through the cluster's API."""

    def create_token(self, seconds: int) -> str:
        """Return a new bootstrap token."""

    def delete_token(self, token: str) -> None:
        """Remove a bootstrap token; one that is gone is fine."""

    def withdraw_certificates(self) -> None:
        """Remove what a master that joins is given of the others' keys; none there is fine."""

    def mint(self, sign: Callable[[str], str], server: str, ca: str) -> str:
        """Return a kubeconfig whose key was made here and signed by `sign`."""

    def apply_addons(self, say: Callable[[str], None]) -> None:
        """Apply the add-ons."""

    def resources(self) -> dict[str, str]:
        """Return the files for ~/.managed_k8s: name -> text, nothing secret."""

    def smoke(self, say: Callable[[str], None]) -> list[str]:
        """Run the smoke test; return what failed."""


class Bootstrap:
    """Makes a cluster of servers.

    say: gets (subject, words) of progress within a step.
    """

    def __init__(
        self, store: Store, settings: Settings, cloud: Cloud, jobs: Jobs, kube: Kube, say: Callable[[str, str], None]
    ) -> None:
        self.store, self.settings, self.cloud, self.jobs, self.kube, self.say = store, settings, cloud, jobs, kube, say

    def actions(self) -> dict[str, Action]:
        """Return what runs a step, by its kind."""
        return {
            CONVERGE: self._converge,
            INIT: self._init,
            ACCESS: self._access,
            JOIN: self._join,
            INFRASTRUCTURE: self._infrastructure,
            ADDONS: self._addons,
            RESOURCES: self._resources,
            SMOKE: self._smoke,
        }

    def clean(self) -> None:
        """Remove what a reconciler that was killed left behind; to be called while the cluster's lock is held."""
        for file in sorted(self.store.path("joins/x").parent.glob("*.json")):
            left = self.store.read(f"joins/{file.name}") or {}
            file.unlink(missing_ok=True)
            # They end by themselves, after two hours at most; sooner if the API can be asked.
            with contextlib.suppress(Exception):
                self.kube.delete_token(left["token"])
                self.kube.withdraw_certificates()

    def _converge(self, node: str, snapshot: Snapshot) -> None:
        # An operator may be at it: then after him.
        self.jobs.run(node, "state.apply", limit=KINDS[CONVERGE].limit, queue=True)

    def _init(self, node: str, snapshot: Snapshot) -> None:
        await_idle(self.jobs, node, _KUBEADM)
        immutable_settings.note(self.store, self.settings)
        # First here with the name, so that an interrupted init goes on there; then where no lost Salt master takes it.
        self.store.write("initialised.json", {"master": node, "finished": False})
        self.cloud.begin()
        self.jobs.run(node, "managed_k8s_kubeadm.init", limit=KINDS[INIT].limit)
        versions.begin(self.store, self.settings.kubernetes.version)
        self.store.write("initialised.json", {"master": node, "finished": True})

    def _access(self, node: str, snapshot: Snapshot) -> None:
        ca = self.jobs.run(node, "managed_k8s_pki.ca_certificate", limit=60)
        public = (self.store.read("infra.json") or {}).get("public_address")
        server = access.server(access.addresses(self.settings, public))
        access.keep(self.store, self.kube.mint(lambda csr: self._sign(node, csr), server, ca), ca)
        kept = self.store.read("initialised.json") or {"master": node}
        if not kept.get("finished"):
            self.store.write("initialised.json", {**kept, "finished": True})
            self.cloud.begin()

    def _sign(self, node: str, request: str) -> str:
        return str(self.jobs.run(node, "managed_k8s_pki.sign_client", request, limit=60))

    def _join(self, node: str, snapshot: Snapshot) -> None:
        await_idle(self.jobs, node, _KUBEADM)
        # One that hands its certificates to another master.
        helper = connected_master(snapshot, _NO_HELPER) if names.is_master(node) else None
        with self._join_secrets([node, *([helper] if helper else [])], with_key=helper is not None):
            if helper:
                self.jobs.run(helper, "managed_k8s_kubeadm.upload_certificates", limit=120)
            self.jobs.run(node, "managed_k8s_kubeadm.join", limit=KINDS[JOIN].limit)

    @contextlib.contextmanager
    def _join_secrets(self, minions: list[str], with_key: bool) -> Iterator[None]:
        """Give minions what they need to join, for as long as they do: the pillar hands it out from here."""
        ca = self.store.read_text(access.CA)
        if ca is None:
            raise StepError("the cluster's CA is not known yet")
        token = self.kube.create_token(_TOKEN_SECONDS)
        key = secrets.token_bytes(32).hex() if with_key else None
        content = {"token": token, "ca": base64.b64encode(ca.encode()).decode(), "certificate_key": key}
        try:
            for name in minions:
                self.store.write(f"joins/{name}.json", content)
            yield
        finally:
            for name in minions:
                self.store.remove(f"joins/{name}.json")
            self.kube.delete_token(token)
            if with_key:
                self.kube.withdraw_certificates()

    def _infrastructure(self, node: str, snapshot: Snapshot) -> None:
        self.cloud.correct(lambda words: self.say("cluster", words))

    def _addons(self, node: str, snapshot: Snapshot) -> None:
        self.kube.apply_addons(lambda words: self.say("addons", words))

    def _resources(self, node: str, snapshot: Snapshot) -> None:
        home = self.jobs.run(node, "managed_k8s_files.default_home", limit=60)
        files = self.kube.resources()
        self.jobs.run(node, "managed_k8s_files.put", f"{home}/.managed_k8s", files, limit=KINDS[RESOURCES].limit)
        self.store.write("resources.json", {"digest": snapshot.desired.resources})

    def _smoke(self, node: str, snapshot: Snapshot) -> None:
        failed = self.kube.smoke(lambda words: self.say("smoke", words))
        if failed:
            raise StepError("; ".join(failed))
        self.store.write("smoke.json", {"digest": snapshot.desired.smoke})
