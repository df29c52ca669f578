"""The settings of a cluster: one file, pillar/clusters/<cluster>.sls, checked as a whole before anything changes.

docs/settings.md and settings.schema.json are made from what is here: managed_k8s/config/reference.py.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Self
from urllib.parse import urlsplit

import pydantic

from managed_k8s.config import kubernetes_versions, networks, validation
from managed_k8s.config.sections import (
    Artifacts,
    Backup,
    ContainerRuntime,
    Gateway,
    Healing,
    Kubernetes,
    Maintenance,
    Metrics,
    OpenStack,
    Storage,
)  # fmt: skip
from managed_k8s.config.validation import Table
from managed_k8s.errors import Error

KEY = "managed_k8s"


class InvalidError(Error):
    """Wrong input; the message lists every problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(f"- {problem}" for problem in self.problems))


class Settings(Table):
    """Settings of a cluster: pillar/clusters/<cluster>.sls, below the key managed_k8s."""

    openstack: OpenStack
    kubernetes: Kubernetes = Kubernetes()
    container_runtime: ContainerRuntime = ContainerRuntime()
    gateway: Gateway = Gateway()
    maintenance: Maintenance = Maintenance()
    healing: Healing = Healing()
    artifacts: Artifacts
    storage: Storage = Storage()
    backup: Backup = Backup()
    metrics: Metrics = Metrics()

    @pydantic.model_validator(mode="after")
    def _without_contradictions(self) -> Self:
        ranges = {
            networks.SERVERS: IPv4Network(self.openstack.network_cidr),
            networks.PODS: IPv4Network(self.kubernetes.pod_cidr),
            networks.SERVICES: IPv4Network(self.kubernetes.service_cidr),
        }
        problems = [*networks.problems(ranges, IPv4Address(self.openstack.virtual_ip), self._outside())]
        version, supported = self.kubernetes.version, kubernetes_versions.SUPPORTED
        if version not in supported:
            problems.append(f"kubernetes.version {version} cannot be installed; there are {', '.join(supported)}")
        validation.contradictions(problems)
        return self

    def _outside(self) -> Iterable[tuple[str, IPv4Address]]:
        """Return what servers must reach outside of the cluster, as far as the settings give addresses."""
        yield from (("openstack.dns_servers", IPv4Address(address)) for address in self.openstack.dns_servers)
        with contextlib.suppress(ValueError):
            yield "artifacts.url", IPv4Address(urlsplit(self.artifacts.url).hostname or "")


@functools.cache
def schema() -> dict[str, Any]:
    """Return the JSON schema of what is below the key."""
    return validation.schema(Settings)


def complete(content: object, source: str) -> Settings:
    """Return the settings in a file's content, with the defaults of all that is not set.

    content: what the file holds, rendered: `{"managed_k8s": {...}}`.
    source: the file's name, for messages.
    Raises InvalidError with every problem that the settings have in themselves.
    """
    if not isinstance(content, dict) or set(content) != {KEY} or not isinstance(content[KEY], dict):
        raise InvalidError([f"{source}: must hold one key, {KEY}:, with the settings below it"])
    try:
        plain = json.dumps(content[KEY], allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError([f"{source}: must be made of texts, numbers, lists and tables only: {error}"]) from None
    try:
        return Settings.model_validate_json(plain)
    except pydantic.ValidationError as error:
        problems = validation.sentences(error, schema(), "setting")
        raise InvalidError(f"{source}: {problem}" for problem in problems) from None
