"""Connecting to the cloud that clouds.yaml names."""

from __future__ import annotations

import os
from pathlib import Path

import openstack
import openstack.connection

# Clouds answer 503 for a moment at every deployment; a final answer is not repeated.
RETRIES = 6


class CloudError(RuntimeError):
    """The cloud refused or does not have something; the message says what to do."""


def clouds_files(checkout: Path) -> list[str]:
    """Return where clouds.yaml may be, the first that exists counts: the environment's, the checkout's."""
    named = os.environ.get("OS_CLIENT_CONFIG_FILE")
    return [path for path in (named, str(checkout / "clouds.yaml")) if path and Path(path).is_file()]


def connect(cloud: str, checkout: Path) -> openstack.connection.Connection:
    """Return a connection.

    cloud: a name in clouds.yaml. checkout: the repository, where a clouds.yaml may lie.
    Raises CloudError when clouds.yaml or the cloud in it is missing.
    """
    from openstack.config import OpenStackConfig

    files = clouds_files(checkout)
    loader = OpenStackConfig(config_files=files or None, app_name="managed-k8s")
    names = loader.get_cloud_names()
    if cloud not in names:
        raise CloudError(
            f"openstack.cloud: {cloud!r} is in no clouds.yaml; there are {', '.join(sorted(names)) or 'none'}. Put it "
            f"into clouds.yaml in {checkout}, or name the file in OS_CLIENT_CONFIG_FILE"
        )
    region = loader.get_one(cloud, connect_retries=RETRIES, status_code_retries=RETRIES)
    return openstack.connection.Connection(config=region)
