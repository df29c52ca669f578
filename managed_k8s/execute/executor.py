"""Running a step of a plan. Each can be run again: what was done already is found done."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from managed_k8s import names
from managed_k8s.config.settings import Settings
from managed_k8s.errors import Error
from managed_k8s.execute import healing, rollout, scaling
from managed_k8s.kube import access
from managed_k8s.minions.jobs import Jobs
from managed_k8s.model.cluster import ACCESS, ADDONS, CONVERGE, INFRASTRUCTURE, INIT, JOIN, RESOURCES, SMOKE, Step
from managed_k8s.observe.observer import Cloud, Look
from managed_k8s.state import immutable_settings, versions
from managed_k8s.state.store import Store

# Seconds that a step may take.
LIMITS = {CONVERGE: 900, INIT: 700, ACCESS: 120, JOIN: 900, ADDONS: 600, RESOURCES: 180, SMOKE: 1200}
LIMITS |= {INFRASTRUCTURE: 300} | scaling.LIMITS | healing.LIMITS | rollout.LIMITS
# What a person does about a step that keeps failing.
ADVICE = {
    CONVERGE: "see the failed states: salt {node} state.apply test=True",
    INIT: "see on the server: journalctl -u kubelet; crictl or ctr -n k8s.io containers list",
    ACCESS: "is kubeadm's CA in /etc/kubernetes/pki on {node}?",
    JOIN: "see on the server: journalctl -u kubelet; to begin anew: salt {node} managed_k8s_node.reset",
    INFRASTRUCTURE: "the cloud refused, or a setting cannot be changed; try it yourself: salt-run managed_k8s.infra",
    ADDONS: "the API refused objects, or the mirror lacks manifests",
    RESOURCES: "is the disk of {node} full?",
    SMOKE: "run it and see each check: salt-run managed_k8s.smoke",
    **scaling.ADVICE,
    **healing.ADVICE,
    **rollout.ADVICE,
}
_TOKEN_SECONDS = 1800


class StepError(Error):
    """A step failed; the message says why."""


class Kube(scaling.Kube, rollout.Kube, Protocol):
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


class ExecutorsCloud(Cloud, scaling.Cloud, healing.Cloud, Protocol):
    """What is asked of OpenStack."""

    def correct(self, say: Callable[[str], None]) -> dict[str, Any]:
        """Make network and security groups what the settings say, and keep what they are."""


class Executor:
    """Runs the steps of one cluster.

    say: gets (subject, words) of progress within a step.
    """

    def __init__(
        self,
        store: Store,
        settings: Settings,
        cloud: ExecutorsCloud,
        jobs: Jobs,
        kube: Kube,
        say: Callable[[str, str], None] = lambda subject, words: None,
    ) -> None:
        self.store, self.settings, self.cloud, self.jobs, self.kube, self.say = (
            store, settings, cloud, jobs, kube, say,
        )  # fmt: skip
        self.turnover = scaling.Turnover(store, settings, cloud, jobs, kube, say)
        self.healing = healing.Healing(store, cloud, jobs)
        self.rolling = rollout.Rolling(store, settings, jobs, kube, say)

    def run(self, step: Step, look: Look) -> None:
        """Run a step.

        look: what the step was planned from. Raises StepError, JobError, or what cloud and API raise.
        """
        actions: dict[str, Callable[[str, Look], None]] = {
            CONVERGE: self._converge,
            INIT: self._init,
            ACCESS: self._access,
            JOIN: self._join,
            INFRASTRUCTURE: self._infrastructure,
            ADDONS: self._addons,
            RESOURCES: self._resources,
            SMOKE: self._smoke,
            **self.turnover.actions(),
            **self.healing.actions(),
            **self.rolling.actions(),
        }
        actions[step.kind](step.node, look)

    def _converge(self, node: str, look: Look) -> None:
        # An operator may be at it: then after him.
        self.jobs.run(node, "state.apply", limit=LIMITS[CONVERGE], queue=True)

    def _init(self, node: str, look: Look) -> None:
        self._await_idle(node)
        immutable_settings.note(self.store, self.settings)
        # First here with the name, so that an interrupted init goes on there; then where no lost Salt master takes it.
        self.store.write("initialised.json", {"master": node, "finished": False})
        self.cloud.begin()
        self.jobs.run(node, "managed_k8s_node.init", limit=LIMITS[INIT])
        versions.begin(self.store, self.settings["kubernetes"]["version"])
        self.store.write("initialised.json", {"master": node, "finished": True})

    def _await_idle(self, node: str) -> None:
        """Wait for a kubeadm that a reconciler, which is gone now, left running."""
        running = self.jobs.run(node, "saltutil.is_running", "managed_k8s_node.*", limit=60)
        if running:
            raise StepError(f"{running[0].get('fun')} is still running there from before; tried again when it ended")

    def _access(self, node: str, look: Look) -> None:
        ca = self.jobs.run(node, "managed_k8s_node.ca_certificate", limit=60)
        public = (self.store.read("infra.json") or {}).get("public_address")
        server = access.server(access.addresses(self.settings, public))
        access.keep(self.store, self.kube.mint(lambda csr: self._sign(node, csr), server, ca), ca)
        kept = self.store.read("initialised.json") or {"master": node}
        if not kept.get("finished"):
            self.store.write("initialised.json", {**kept, "finished": True})
            self.cloud.begin()

    def _sign(self, node: str, request: str) -> str:
        return str(self.jobs.run(node, "managed_k8s_node.sign_client", request, limit=60))

    def _join(self, node: str, look: Look) -> None:
        self._await_idle(node)
        parsed = names.parse(node)
        helper = self._helper(look) if parsed and parsed.role == names.MASTER else None
        with self._join_secrets([node, *([helper] if helper else [])], with_key=helper is not None):
            if helper:
                self.jobs.run(helper, "managed_k8s_node.upload_certificates", limit=120)
            self.jobs.run(node, "managed_k8s_node.join", limit=LIMITS[JOIN])

    def _helper(self, look: Look) -> str:
        """Return a master that can hand its certificates to another."""
        members = [name for name, facts in look.observed.minions.items() if facts.is_member and "-master-" in name]
        ready = look.observed.ready or {}
        if not members:
            raise StepError("no master that has joined is connected; a new one needs its certificates")
        return max(sorted(members), key=lambda name: bool(ready.get(name)))

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

    def clean(self) -> None:
        """Remove what a reconciler that was killed left behind; to be called while the cluster's lock is held."""
        for file in sorted(self.store.path("joins/x").parent.glob("*.json")):
            left = self.store.read(f"joins/{file.name}") or {}
            file.unlink(missing_ok=True)
            # They end by themselves, after two hours at most; sooner if the API can be asked.
            with contextlib.suppress(Exception):
                self.kube.delete_token(left["token"])
                self.kube.withdraw_certificates()

    def _infrastructure(self, node: str, look: Look) -> None:
        self.cloud.correct(lambda words: self.say("cluster", words))

    def _addons(self, node: str, look: Look) -> None:
        self.kube.apply_addons(lambda words: self.say("addons", words))

    def _resources(self, node: str, look: Look) -> None:
        home = self.jobs.run(node, "managed_k8s_node.default_user", limit=60)
        files = self.kube.resources()
        self.jobs.run(node, "managed_k8s_node.put_files", f"{home}/.managed_k8s", files, limit=LIMITS[RESOURCES])
        self.store.write("resources.json", {"digest": look.desired.resources})

    def _smoke(self, node: str, look: Look) -> None:
        failed = self.kube.smoke(lambda words: self.say("smoke", words))
        if failed:
            raise StepError("; ".join(failed))
        self.store.write("smoke.json", {"digest": look.desired.smoke})


def advice(step: Step) -> str:
    """Return what a person does about a step that keeps failing."""
    return ADVICE[step.kind].format(node=step.node)
