"""Steps, and the one table of their kinds.

A new kind needs an entry in KINDS, a function in managed_k8s/plan/ that plans it, and one in managed_k8s/execute/ that
runs it. docs/steps.md and the table of steps in docs/events.md are made from KINDS by `make docs`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

# From servers to a cluster.
CONVERGE, INIT, ACCESS, JOIN = "converge", "init", "access", "join"
INFRASTRUCTURE, ADDONS, RESOURCES, SMOKE = "infrastructure", "addons", "resources", "smoke"
# Servers that come and go.
CREATE, DRAIN, LEAVE, REMOVE, UNCORDON = "create", "drain", "leave", "remove", "uncordon"
# What is done about an unhealthy server, the gentlest first.
RESTART, START, REBOOT, REPLACE = "restart", "start", "reboot", "replace"
# A master's control plane; a node's kubelet; a server's packages and reboot; a master's certificates.
UPGRADE, KUBELET, MAINTAIN, RENEW = "upgrade", "kubelet", "maintain", "renew"


@dataclasses.dataclass(frozen=True)
class Step:
    """One thing to do.

    id: like `join:demo-worker-1`. node: where; empty for the cluster as a whole. needs: ids of steps to be done first.
    held: what has to come true first, beside them; empty when nothing.
    """

    id: str
    kind: str
    node: str
    description: str
    needs: tuple[str, ...] = ()
    held: str = ""

    @property
    def limit(self) -> int:
        """Return how many seconds it may take."""
        return KINDS[self.kind].limit

    @property
    def advice(self) -> str:
        """Return what an operator does when it keeps failing."""
        return KINDS[self.kind].advice.format(node=self.node)


# When a kind of step changes the control plane, which one step at a time may.
NEVER, ON_A_MASTER, ALWAYS = "never", "on a master", "always"
_STOPPED = "upgrade.md#when-it-stops"


@dataclasses.dataclass(frozen=True)
class StepKind:
    """A kind of step.

    name: the first part of its steps' ids. event: what is announced when one is done. limit: seconds that it may take.
    done: what is true of its server, or of the cluster, then. advice: what an operator does when it keeps failing;
    `{node}` is the server. page: of docs/, where more is said. cluster_wide: whether it is one step for the whole
    cluster. control_plane: NEVER, ON_A_MASTER or ALWAYS. beside: kinds that may still run on its server when it starts.
    rolling: whether it goes from server to server, the next one only after the end of the last.
    """

    name: str
    event: str
    limit: int
    done: str
    advice: str
    page: str = ""
    cluster_wide: bool = False
    control_plane: str = NEVER
    beside: tuple[str, ...] = ()
    rolling: bool = False


# fmt: off
_TABLE = (
    StepKind(INFRASTRUCTURE, "infrastructure_corrected", 300, cluster_wide=True,
             done="network and security groups are what the settings say, again",
             advice="the cloud refused, or a setting cannot be changed; try it yourself: salt-run managed_k8s.infra"),
    StepKind(CONVERGE, "converged", 900,
             done="its states are applied",
             advice="see the failed states: salt {node} state.apply test=True"),
    StepKind(INIT, "initialised", 700, control_plane=ALWAYS, beside=(CONVERGE,),
             done="`kubeadm init` ended on it",
             advice="see on the server: journalctl -u kubelet; crictl or ctr -n k8s.io containers list"),
    StepKind(ACCESS, "accessible", 120, beside=(CONVERGE,),
             done="CA and kubeconfig were fetched from it",
             advice="is kubeadm's CA in /etc/kubernetes/pki on {node}?"),
    StepKind(JOIN, "joined", 900, control_plane=ON_A_MASTER, beside=(CONVERGE,),
             done="it is a member of the cluster",
             advice="see on the server: journalctl -u kubelet; to begin anew: salt {node} managed_k8s_kubeadm.reset"),
    StepKind(ADDONS, "addons_applied", 600, cluster_wide=True, page="addons.md",
             done="pod network, cloud controller, volumes, DNS are applied",
             advice="the API refused objects, or the mirror lacks manifests"),
    StepKind(RESOURCES, "resources_written", 180,
             done="`~/.managed_k8s` is written on it",
             advice="is the disk of {node} full?"),
    StepKind(SMOKE, "smoke_passed", 1200, cluster_wide=True, page="addons.md#when-one-fails",
             done="every check of the smoke test passed",
             advice="run it and see each check: salt-run managed_k8s.smoke"),

    StepKind(CREATE, "created", 1500, page="scaling.md",
             done="it was made by the reconciler",
             advice="make it by hand and see: salt-cloud -m cluster.map"),
    # Pods have up to an hour to leave a node, by a setting; so they have in `kubelet` and `maintain`.
    StepKind(DRAIN, "drained", 4200, page="scaling.md",
             done="nothing runs on the node any more that can run elsewhere",
             advice="see what is left on it: kubectl get pods -A --field-selector spec.nodeName={node}"),
    StepKind(LEAVE, "left_etcd", 300, control_plane=ALWAYS, page="scaling.md",
             done="its member is out of etcd",
             advice="see etcd's members: salt '*-master-*' managed_k8s_etcd.members"),
    StepKind(REMOVE, "removed", 900, control_plane=ON_A_MASTER, page="scaling.md",
             done="Node, server and key, or what was left of them, are gone",
             advice="look at the server: openstack server show {node}"),
    StepKind(UNCORDON, "uncordoned", 120, page="scaling.md",
             done="its removal was called off, and it takes pods again",
             advice="kubectl uncordon {node}"),

    StepKind(RESTART, "services_restarted", 120, page="healing.md",
             done="those of its services that did not run were restarted",
             advice="see on the server: systemctl --failed; journalctl -u kubelet"),
    StepKind(START, "started", 300, page="healing.md",
             done="it was off, and was started",
             advice="see why it does not start: openstack server show {node}"),
    StepKind(REBOOT, "rebooted", 300, control_plane=ON_A_MASTER, page="healing.md",
             done="it was reset, as if its plug had been pulled, and runs",
             advice="see its console: salt-cloud -a console_log {node}"),
    StepKind(REPLACE, "condemned", 30, page="healing.md",
             done="it is to be replaced",
             advice="salt-run managed_k8s.replace {node}"),

    StepKind(UPGRADE, "control_plane_upgraded", 2400, control_plane=ON_A_MASTER, rolling=True, page=_STOPPED,
             done="its API server, controller manager, scheduler, etcd run the new version",
             advice="see on the server: journalctl -u kubelet; /etc/kubernetes/tmp has kubeadm's copies of what was "
                    "before. The way back: salt-run managed_k8s.rollback"),
    StepKind(KUBELET, "kubelet_upgraded", 6600, control_plane=ON_A_MASTER, rolling=True, page=_STOPPED,
             done="its kubelet runs the new version, and it takes pods again",
             advice="see what is left on it: kubectl get pods -A --field-selector spec.nodeName={node}; on the server: "
                    "journalctl -u kubelet"),
    StepKind(MAINTAIN, "maintained", 9000, control_plane=ON_A_MASTER, rolling=True, page=_STOPPED,
             done="it was rebooted, and takes pods again",
             advice="look at the server: salt-cloud -a console_log {node}"),
    StepKind(RENEW, "certificates_renewed", 1500, control_plane=ON_A_MASTER, rolling=True, page="certificates.md",
             done="its control plane uses new certificates",
             advice="see on the server: kubeadm certs check-expiration; journalctl -u kubelet"),
)
# fmt: on
KINDS: Mapping[str, StepKind] = {kind.name: kind for kind in _TABLE}


def runnable(steps: list[Step]) -> list[Step]:
    """Return the steps that may be started now: nothing they need is still to be done."""
    open_ids = {step.id for step in steps}
    return [step for step in steps if not step.held and open_ids.isdisjoint(step.needs)]
