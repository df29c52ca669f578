"""Whether an upgrade may begin: everything that speaks against it, at once."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from managed_k8s.config.settings import Settings
from managed_k8s.model.rollout import is_older, minor, number

# Bytes: for the programs and images of a version; beside that kubeadm copies etcd's data before it upgrades it.
ROOM = 3 << 30
_VERSION = re.compile(r"[0-9]+\.[0-9]+\.[0-9]+")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclasses.dataclass(frozen=True)
class Situation:
    """What an upgrade is to begin from.

    cluster: its name. written: the settings as their file has them. runs: version of the cluster; empty when it cannot
    be asked. kubelets: node -> version. todo: what the cluster lacks, in sentences. etcd: whether it is whole. begun:
    the version of an upgrade that is under way, or empty. maintenance: servers that are still to be rebooted. expected:
    nodes that are asked. answers: node -> what managed_k8s_upgrade.check says there.
    """

    cluster: str
    written: Settings
    runs: str
    kubelets: Mapping[str, str]
    todo: Sequence[str]
    etcd: bool
    begun: str
    maintenance: Collection[str]
    expected: Collection[str]
    answers: Mapping[str, Mapping[str, Any]]


def is_version(version: object) -> TypeGuard[str]:
    """Tell whether something is a version of Kubernetes, in its form."""
    return isinstance(version, str) and _VERSION.fullmatch(version) is not None


def version_problems(situation: Situation, version: object, known: Collection[str]) -> list[str]:
    """Return what speaks against a version: no upgrade leads to it, in a sentence each.

    known: versions that can be installed.
    """
    there = f"there are {', '.join(known)}"
    if not is_version(version):
        return [f"version: {version!r} is no version; write it like 1.37.2; {there}"]
    problems = [] if version in known else [f"version: {version} cannot be installed; {there}"]
    runs = situation.runs
    if not runs:
        return [*problems, "the cluster's version cannot be asked: the Kubernetes API does not answer, or has no "
                "ConfigMap kube-system/kubeadm-config"]  # fmt: skip
    if situation.begun and situation.begun != version:
        problems.append(
            f"version: an upgrade to {situation.begun} is under way; it has to end first, or be undone: "
            f"salt-run managed_k8s.rollback {situation.cluster}"
        )
    elif version == runs and not situation.begun:
        problems.append(f"version: {situation.cluster} runs {version} already")
    elif is_older(version, runs):
        problems.append(
            f"version: {version} is older than what runs, {runs}; no cluster is made older. The way back after an "
            f"upgrade is its backup: salt-run managed_k8s.rollback {situation.cluster}"
        )
    elif minor(version) > (minor(runs)[0], minor(runs)[1] + 1):
        between = [other for other in known if minor(other) == (minor(runs)[0], minor(runs)[1] + 1)]
        first = f"first to {max(between, key=number)}" if between else "one after the other; none can be installed"
        problems.append(f"version: from {runs} to {version} no minor version may be skipped; {first}")
    return problems


def problems(situation: Situation, version: str) -> list[str]:
    """Return what speaks against beginning an upgrade now, in a sentence each."""
    return [*_health(situation), *_pin(situation, version), *_skew(situation, version), *_nodes(situation, version)]


def _health(situation: Situation) -> Iterable[str]:
    yield from (f"the cluster is not as it should be: {sentence}" for sentence in situation.todo)
    if not situation.etcd:
        yield "etcd is not whole: every master must have a healthy member; see salt-run managed_k8s.status"
    if situation.maintenance:
        servers = ", ".join(sorted(situation.maintenance))
        yield f"{servers} are still to be rebooted; follow it: salt-run managed_k8s.wait"


def _pin(situation: Situation, version: str) -> Iterable[str]:
    written = situation.written.kubernetes.version
    if situation.written.artifacts.sha256 and written != version:
        yield (
            f"artifacts.sha256 is of version {written}: write kubernetes.version: {version} and its artifacts.sha256 "
            f"into pillar/clusters/{situation.cluster}.sls first; nothing changes by that alone"
        )


def _skew(situation: Situation, version: str) -> Iterable[str]:
    """kubernetes.io/releases/version-skew-policy: a kubelet may be three minor versions older than an API server."""
    for node, kubelet in sorted(situation.kubelets.items()):
        if minor(version)[1] - minor(kubelet)[1] > 3 or is_older(version, kubelet):
            way = f"have it made anew: salt-run managed_k8s.replace {node}"
            yield f"{node}: its kubelet {kubelet} does not go with {version}; {way}"


def _nodes(situation: Situation, version: str) -> Iterable[str]:
    for node in sorted(situation.expected):
        told = situation.answers.get(node)
        if told is None:
            yield f"{node}: its minion did not answer managed_k8s_upgrade.check"
            continue
        needed = ROOM + int(told["etcd"])
        if int(told["free"]) < needed:
            yield f"{node}: has {_size(told['free'])} of disk free; the upgrade needs {_size(needed)}"
    yield from deprecated((line for told in situation.answers.values() for line in told["deprecated"]), version)


def deprecated(lines: Iterable[str], version: str) -> list[str]:
    """Return a sentence for each API that somebody uses and that the version does not have any more.

    lines: apiserver_requested_deprecated_apis of the API servers' metrics; they count from an API server's start.
    """
    found = set()
    for line in lines:
        labels, value = dict(_LABEL.findall(line)), line.rpartition(" ")[2]
        removed = labels.get("removed_release", "")
        if re.fullmatch(r"[0-9]+\.[0-9]+", removed) and float(value) > 0 and number(removed) <= minor(version):
            group = f"{labels.get('group') or 'core'}/{labels.get('version')} {labels.get('resource')}"
            found.add(
                f"{group} is in use, and not there any more from {removed} on; who uses it: the masters' audit logs, "
                "annotation k8s.io/removed-release"
            )
    return sorted(found)


def _size(count: Any) -> str:
    return f"{int(count) / (1 << 30):.1f} GiB"
