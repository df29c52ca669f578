"""The steps that heal servers, and what keeps the cluster from some of them: pure functions of what is."""

from __future__ import annotations

from collections.abc import Iterable

from managed_k8s import names
from managed_k8s.model.cluster import Desired, Observed
from managed_k8s.model.health import Patient
from managed_k8s.model.membership import has_quorum
from managed_k8s.model.steps import REBOOT, REPLACE, RESTART, START, Step
from managed_k8s.plan import scaling

_DOES = {
    RESTART: "restart what does not run on {name}",
    START: "start {name}",
    REBOOT: "reboot {name}",
    REPLACE: "give {name} up and make it anew",
}


def steps(desired: Desired, observed: Observed) -> Iterable[Step]:
    """Return a step for each server that something can be done about; held while it must not be."""
    for patient in observed.health.patients:
        if patient.remedy:
            held = patient.held or _unsafe(desired, observed, patient)
            words = f"{_DOES[patient.remedy].format(name=patient.name)}: {patient.why}"
            yield Step(f"{patient.remedy}:{patient.name}", patient.remedy, patient.name, words, (), held)


def sentences(observed: Observed) -> Iterable[str]:
    """Return what an operator has to know: what is not done, and why."""
    health = observed.health
    if health.alarm:
        yield f"nothing is rebooted or replaced: {health.alarm}"
    for patient in health.patients:
        if not patient.remedy:
            yield f"{patient.name}: {patient.why}; {patient.held}"


def _unsafe(desired: Desired, observed: Observed, patient: Patient) -> str:
    if patient.remedy == REPLACE:
        if (observed.ready or {}).get(patient.name) and patient.name in observed.health.silent:
            # Its pods would be waited for, in vain. A silent minion alone is not enough: one on a full disk says
            # nothing, for good, while its kubelet is Ready.
            return "Kubernetes has not noticed yet"
        return scaling.refusal(desired, observed, patient.name)
    if patient.remedy == REBOOT and names.is_master(patient.name):
        return _quorum_without(desired, observed, patient.name)
    return ""


def _quorum_without(desired: Desired, observed: Observed, name: str) -> str:
    """Return why a master must not be away for a moment: only its own etcd may be missing meanwhile."""
    masters = [node.id for node in desired.nodes if node.role == names.MASTER]
    if masters == [name]:
        return ""
    members = observed.fleet.members
    if members is None:
        return "no connected master could be asked for etcd's members"
    voters = [member for member in members if member.voter]
    rest = [member for member in voters if member.node != name]
    if len(rest) == len(voters) or has_quorum(rest, of=len(voters)):
        return ""
    return f"etcd would lose its quorum without {name}; first heal the others"
